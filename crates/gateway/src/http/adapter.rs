//! The same service behind the listener's router: chunked bodies, and requests on connections that
//! began with another protocol's.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderMap, HeaderName, header};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use hyper::body::{Body as _, Frame, SizeHint};

use super::body::Trouble;
use super::meter::Meter;
use super::write::Told;
use super::{
    Answer, Called, Head, Over, Plan, Read, Request, Server, Service, Source, TAIL_BYTES_MAX,
};
use crate::listener::ForwardedFor;

impl<S: Service> Server<S> {
    /// A router that has the service answer what it claims, and nothing else. Client certificates are
    /// not seen here: a service that needs one refuses.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer::<S>).with_state(Arc::clone(self))
    }
}

async fn answer<S: Service>(
    State(server): State<Arc<Server<S>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: HttpRequest,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if !server.service.claims(parts.method.as_str(), path) {
        return response(Answer::new(404, Bytes::from_static(b"{\"error\":\"no such path\"}")));
    }
    let text = |name| text(&parts.headers, &name);
    let is_gzip =
        |name| text(name).is_some_and(|coding| coding.to_ascii_lowercase().contains("gzip"));
    let head = Head {
        method: parts.method.as_str(),
        path,
        query: parts.uri.query(),
        authorization: text(header::AUTHORIZATION),
        // The length of a chunked body is not known: it counts as the most it can be.
        content_length: body.size_hint().upper().unwrap_or(u64::MAX),
        gzip_body: is_gzip(header::CONTENT_ENCODING),
        accepts_gzip: is_gzip(header::ACCEPT_ENCODING),
        forwarded_for: forwarded_for(&parts.headers),
        user_agent: text(header::USER_AGENT),
    };
    let address = server.options.front.proxies.client(peer.ip(), head.forwarded_for.newest_first());
    let source = Source { address, peer, has_certificate: false };
    let Read { max, over, room } = match server.service.plan(&head, &source) {
        Plan::Answer(answer) => return response(answer),
        Plan::Read(read) => read,
    };
    let mut meter = Meter::new(room, &server.budget);
    let Collected { body, tail, length } = match collect(body, max, &mut meter).await {
        Ok(collected) => collected,
        Err(Trouble::Full) => return response(server.full(&head)),
        Err(_) => return response(server.refuse(400, "body cannot be read")),
    };
    let (head, permit) = (Head { content_length: length, ..head }, meter.into_permit());
    let is_truncated = !tail.is_empty();
    if let (true, Over::Answer(answer)) = (is_truncated, over) {
        return response(answer);
    }
    let request = Request { head: &head, source, body, is_truncated, tail, permit };
    match server.service.call(request) {
        Called::Ready(answer) => response(answer),
        Called::Later(call) => response(call.await),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()
}

fn forwarded_for(headers: &HeaderMap) -> ForwardedFor<'_> {
    let mut lines = ForwardedFor::default();
    headers.get_all("x-forwarded-for").iter().for_each(|line| lines.push(line.to_str().ok()));
    lines
}

/// The first bytes, the last bytes of the rest, and how long all was.
struct Collected {
    body: Bytes,
    tail: Bytes,
    length: u64,
}

async fn collect(body: Body, max: usize, meter: &mut Meter) -> Result<Collected, Trouble> {
    let (mut kept, mut tail, mut length) = (BytesMut::new(), BytesMut::new(), 0);
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(|_| Trouble::Gone)?;
        length += piece.len() as u64;
        let first = piece.split_to(piece.len().min(max - kept.len()));
        meter.hold(kept.len() + first.len())?;
        kept.extend_from_slice(&first);
        tail.extend_from_slice(&piece);
        if tail.len() > 4 * TAIL_BYTES_MAX {
            tail = tail.split_off(tail.len() - TAIL_BYTES_MAX);
        }
    }
    let tail = tail.split_off(tail.len().saturating_sub(TAIL_BYTES_MAX));
    Ok(Collected { body: kept.freeze(), tail: tail.freeze(), length })
}

fn response(answer: Answer) -> Response {
    let Answer { status, body, content_type, is_gzip, close, retry_after, after } = answer;
    let mut response =
        Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    if is_gzip {
        response = response.header(header::CONTENT_ENCODING, "gzip");
    }
    if close {
        response = response.header(header::CONNECTION, "close");
    }
    if let Some(after) = retry_after {
        response = response.header(header::RETRY_AFTER, after.as_secs().max(1));
    }
    let body = Body::new(Tracked { body: Some(body), told: Some(Told::new(after)) });
    response.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer that is no HTTP");
        let mut failed = Response::new(Body::from("{\"error\":\"internal\"}"));
        *failed.status_mut() = ::http::StatusCode::INTERNAL_SERVER_ERROR;
        failed
    })
}

/// A body that tells once it was taken, or dropped.
struct Tracked {
    body: Option<Bytes>,
    told: Option<Told>,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.body.take();
        if let Some(told) = self.told.take() {
            told.written();
        }
        Poll::Ready(body.map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, Bytes::len) as u64)
    }
}
