//! All paths, the OpenAPI document made of them, and what stands before them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use http::Method;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authorise::{Operation, operation};
use crate::hunts::{act, ask, coverage, list, results};
use crate::inventory::{answers, endpoint, policies, rules};
use crate::problem::{Code, Problem};
use crate::state::ApiState;
use crate::{
    approvals, artifacts, assets, audit, auth, cas, debug, doctor, document, endpoints,
    enrol_secrets, gate, idempotency, instances, labels, length, live, node_keys, osquery_config,
    osquery_yara, schedules, shards, sinks, sql, storage, tokens, updates, uploads, users, version,
};

/// The operation behind each method and path.
#[derive(Clone, Debug)]
pub(crate) struct Operations(Arc<HashMap<(Method, String), &'static Operation>>);

impl Operations {
    pub(crate) fn get(&self, method: &Method, path: &str) -> Option<&'static Operation> {
        self.0.get(&(method.clone(), path.to_owned())).copied()
    }

    /// Every path must have its row in the table of operations: without one nobody would know who
    /// may call it. This is fixed at compile time and walked by a test.
    fn of(document: &OpenApi) -> Self {
        let mut all = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, id) in document::methods(item) {
                let known = operation(&id);
                assert!(
                    known.is_some(),
                    "{method} {path} ({id}) is not in the table of operations"
                );
                all.extend(known.map(|known| ((method, path.clone()), known)));
            }
        }
        Self(Arc::new(all))
    }
}

/// The API under `/v1`, to be served on the listener for operators.
pub fn router(state: ApiState) -> Router {
    let (router, document) = parts().split_for_parts();
    let operations = Operations::of(&document);
    let served = document::served(&document);
    router
        .route("/v1/openapi.json", axum::routing::get(move || document::serve(served.clone())))
        .route("/", axum::routing::get(assets::page))
        .route("/assets/{name}", axum::routing::get(assets::file))
        .fallback(async || {
            Problem::new(Code::NotFound, "there is no such path; see /v1/openapi.json")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "see /v1/openapi.json for what is offered here")
        })
        .layer(middleware::from_fn_with_state((state.clone(), operations.clone()), gate::gate))
        .layer(DefaultBodyLimit::max(idempotency::BODY_BYTES_MAX))
        .layer(middleware::from_fn(length::limit))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(Problem::internal("a handler panicked"))
        }))
        .layer(middleware::from_fn_with_state((state.clone(), operations), gate::identify))
        .with_state(state)
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    parts().split_for_parts().1
}

fn parts() -> OpenApiRouter<ApiState> {
    let v1 = accounts()
        .merge(fleet())
        .merge(scheduled())
        .merge(known())
        .merge(questions())
        .merge(system());
    OpenApiRouter::with_openapi(document::Document::openapi()).nest("/v1", v1)
}

fn accounts() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(auth::login::login))
        .routes(routes!(auth::login::logout))
        .routes(routes!(auth::login::whoami))
        .routes(routes!(auth::login::change_password))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get))
        .routes(routes!(users::set_roles))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::reset))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit::resource::list))
        .routes(routes!(audit::resource::check))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::deny))
}

fn fleet() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(endpoints::list))
        .routes(routes!(endpoints::get, endpoints::delete))
        .routes(routes!(endpoints::agents))
        .routes(routes!(labels::list, labels::create))
        .routes(routes!(labels::delete))
        .routes(routes!(labels::members, labels::change))
        .routes(routes!(enrol_secrets::list, enrol_secrets::create))
        .routes(routes!(enrol_secrets::revoke))
        .routes(routes!(node_keys::list, node_keys::rotate))
        .routes(routes!(node_keys::retire))
        .routes(routes!(cas::list, cas::add))
        .routes(routes!(cas::sign))
        .routes(routes!(cas::retire))
        .routes(routes!(uploads::list))
        .routes(routes!(uploads::get))
        .routes(routes!(uploads::content))
        .routes(routes!(artifacts::list, artifacts::create))
        .routes(routes!(artifacts::get, artifacts::delete))
}

fn scheduled() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(schedules::resource::list, schedules::resource::create))
        .routes(routes!(
            schedules::resource::get,
            schedules::resource::change,
            schedules::resource::delete
        ))
        .routes(routes!(osquery_config::list))
        .routes(routes!(osquery_config::get, osquery_config::put, osquery_config::delete))
        .routes(routes!(osquery_config::document))
        .routes(routes!(osquery_yara::list))
        .routes(routes!(osquery_yara::get, osquery_yara::put, osquery_yara::delete))
}

fn known() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(policies::list, policies::create))
        .routes(routes!(answers::counts))
        .routes(routes!(policies::get, policies::change, policies::delete))
        .routes(routes!(answers::endpoints))
        .routes(routes!(answers::flips))
        .routes(routes!(endpoint::vitals))
        .routes(routes!(endpoint::users))
        .routes(routes!(endpoint::software))
        .routes(routes!(endpoint::policies))
        .routes(routes!(endpoint::refetch))
        .routes(routes!(rules::get, rules::set, rules::remove))
        .routes(routes!(rules::history))
        .routes(routes!(rules::preview))
}

fn questions() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list::list, ask::hunt))
        .routes(routes!(coverage::get, act::delete))
        .routes(routes!(act::pause))
        .routes(routes!(act::resume))
        .routes(routes!(act::stop))
        .routes(routes!(act::extend))
        .routes(routes!(act::hold))
        .routes(routes!(act::approve))
        .routes(routes!(coverage::coverage))
        .routes(routes!(coverage::outcomes))
        .routes(routes!(results::results))
        .routes(routes!(live::live))
        .routes(routes!(ask::query))
        .routes(routes!(ask::collection))
        .routes(routes!(list::history))
        .routes(routes!(sql::resource::run))
}

fn system() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(version::get))
        .routes(routes!(storage::get))
        .routes(routes!(sinks::list, sinks::create))
        .routes(routes!(sinks::get, sinks::delete))
        .routes(routes!(sinks::pause))
        .routes(routes!(sinks::resume))
        .routes(routes!(sinks::test))
        .routes(routes!(sinks::refused_rows))
        .routes(routes!(debug::create))
        .routes(routes!(debug::get))
        .routes(routes!(debug::content))
        .routes(routes!(doctor::look))
        .routes(routes!(instances::list))
        .routes(routes!(shards::list))
        .routes(routes!(updates::watch))
}
