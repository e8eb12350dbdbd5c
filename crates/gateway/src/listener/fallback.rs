//! Ordinary HTTP: what no protocol claims, answered by a router.

use std::convert::Infallible;

use ::http::{Request, Response, StatusCode, header};
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;

use super::Opened;
use super::connection::Shared;
use super::rewound::Rewound;

/// Serves a connection until it ends.
///
/// A request has its time, body and all: one that stalls is told so, and its connection ends.
pub(super) async fn serve(shared: &Shared, opened: Opened) {
    let Opened { io, first, peer, shutdown, opening, .. } = opened;
    // The head is under hyper's timer from here on.
    drop(opening);
    let (router, time) = (TowerToHyperService::new(shared.fallback.clone()), &shared.options);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = timeout(time.request_timeout, router.call(request));
        async move { Ok::<_, Infallible>(answer.await.map_or_else(|_| late(), |Ok(answer)| answer)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(time.handshake_timeout)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Rewound::new(first.freeze(), io)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn late() -> Response<Body> {
    let mut answer = Response::new(Body::from("{\"error\":\"request took too long\"}"));
    *answer.status_mut() = StatusCode::REQUEST_TIMEOUT;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}
