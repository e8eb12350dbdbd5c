//! The OpenAPI document: what stands in it beside the paths, and how it is served.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder, SecurityRequirement};
use utoipa::{Modify, ToSchema};

use crate::problem;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Muster",
        description = "Ask every machine you own a question and get the answer in seconds.\n\n\
            Every refusal is problem details (RFC 9457) with a stable `code`. Lists are paged: pass \
            `next` as `after`. Changes take an `Idempotency-Key` header: the same key and request \
            is done once and answered alike for a day.",
        license(name = "AGPL-3.0-or-later", identifier = "AGPL-3.0-or-later")
    ),
    components(schemas(problem::Body)),
    modifiers(&Finish)
)]
pub(crate) struct Document;

struct Finish;

impl Modify for Finish {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(problem::Body::name())))
            .build();
        let refusal = ResponseBuilder::new()
            .description("Refused: problem details with a stable code.")
            .content("application/problem+json", content)
            .build();
        components.responses.insert("Problem".into(), refusal.into());
        document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    }
}

/// The document as it is served and kept in the repository: each operation may also answer with a
/// problem.
pub(crate) fn served(document: &OpenApi) -> Bytes {
    let mut document = document.clone();
    for item in document.paths.paths.values_mut() {
        for operation in operations_mut(item) {
            let refusal = utoipa::openapi::RefOr::Ref(Ref::from_response_name("Problem"));
            operation.responses.responses.insert("default".into(), refusal);
        }
    }
    serde_json::to_vec_pretty(&document).unwrap_or_default().into()
}

pub(crate) async fn serve(document: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], document).into_response()
}

/// The methods of a path and the ids of their operations.
pub(crate) fn methods(item: &PathItem) -> impl Iterator<Item = (Method, String)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| {
        Some((method, operation.as_ref()?.operation_id.clone().unwrap_or_default()))
    })
}

fn operations_mut(
    item: &mut PathItem,
) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}
