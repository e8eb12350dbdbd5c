//! Bodies that are longer than any operation takes, by what their head says.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::idempotency::BODY_BYTES_MAX;
use crate::problem::{Code, Problem};

/// What is read of a body that is refused. Who sends all of it before it reads the answer, as balancers
/// do, would find the connection closed instead, and tell of a server that failed.
const READ_BYTES_MAX: usize = 16 << 20;
/// For how long it is read.
const READ_TIME: Duration = Duration::from_secs(5);

/// Refuses a body by its length; one without a length is refused when it turns out to be too long.
pub(crate) async fn limit(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok());
    if length.is_none_or(|length| length <= BODY_BYTES_MAX as u64) {
        return next.run(request).await;
    }
    // Who asks first has not sent anything.
    if !headers.contains_key(EXPECT) {
        let _ = timeout(READ_TIME, read(request.into_body())).await;
    }
    too_long().into_response()
}

/// The answer to such a body.
pub(crate) fn too_long() -> Problem {
    Problem::new(Code::TooLarge, "the body is larger than this operation takes (1 MiB)")
}

async fn read(mut body: Body) {
    let mut bytes = 0;
    while bytes < READ_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
}
