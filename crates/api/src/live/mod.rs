//! Rows and progress of a hunt while it runs, as server-sent events.

mod feed;
mod fill;
mod streams;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use muster_types::HuntNo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

pub(crate) use streams::{Streams, send};
pub(crate) use watch::Watches;

use crate::caller::Caller;
use crate::extract::Path;
use crate::hunts::find;
use crate::hunts::view::Coverage;
use crate::problem::Result;
use crate::state::ApiState;

/// Events that may wait for a slow reader; then the stream waits for a while, and hints are lost to a gap
/// that is filled from the segments.
const EVENTS: usize = 64;

/// Rows of one endpoint, in the order they came.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveRows {
    /// The endpoint.
    pub endpoint: u32,
    /// Its name.
    pub name: String,
    /// The agent that answered.
    pub agent: u32,
    /// The rows as the agent sent them.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Box<RawValue>>,
}

/// The end of one endpoint's task.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LiveOutcome {
    /// The endpoint.
    pub endpoint: u32,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: String,
    /// The agent's own message.
    pub message: String,
}

/// What became of the endpoints so far.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LiveProgress {
    /// One outcome for each.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Seconds until the last of those that wait asks for work, at most: agents that poll are not reached before.
    /// As far as this instance has seen them poll; left out for more than a thousand endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_poll_seconds: Option<u64>,
}

/// The end of the stream.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LiveEnd {
    /// State of the hunt.
    pub state: String,
    /// What became of the endpoints.
    pub coverage: Coverage,
    /// Rows that were sent in this stream.
    pub row_count: u64,
    /// What is stored and could not be sent, in words; the hunt's results have it. Left out when
    /// everything was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Follows a hunt: events `rows` ([`LiveRows`]), `outcome` ([`LiveOutcome`]), `progress`
/// ([`LiveProgress`]) and, when it is over, `end` ([`LiveEnd`]). Nothing is lost by joining late, or when an
/// instance dies meanwhile: what hints did not bring is read from the store. Every row comes once, or `end`
/// says what is missing. Closing the connection does not stop the hunt: `POST /v1/hunts/{no}/stop` does.
#[utoipa::path(get, path = "/hunts/{no}/live", operation_id = "hunts.live", tag = "hunts",
    params(("no" = u64, Path)),
    responses((status = OK, description = "Events.", content_type = "text/event-stream",
        body = LiveEnd)))]
pub(crate) async fn live(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>> + use<>>> {
    find(&state, &caller, no).await?;
    let place = Arc::new(state.streams.take(caller.principal.user_no)?);
    let (send, events) = mpsc::channel(EVENTS);
    let feed = feed::Feed::new(state.clone(), caller, HuntNo(no), send);
    let follow = {
        let place = Arc::clone(&place);
        async move {
            feed.run().await;
            drop(place);
        }
    };
    state.tasks.spawn(follow);
    // What waits for a reader is there until the connection ends, so the place is taken until then.
    let events = ReceiverStream::new(events).map(move |event| {
        let _kept = &place;
        event
    });
    Ok(Sse::new(events).keep_alive(keep_alive()))
}

pub(crate) fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(Duration::from_secs(15))
}
