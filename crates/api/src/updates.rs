//! `/updates`: what changed, so that a page knows when to look again.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use muster_bus::{Hint, Topic};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::auth::store;
use crate::caller::Caller;
use crate::live::{keep_alive, send};
use crate::problem::Result;
use crate::state::ApiState;

/// Many changes within this time are told once.
const EVERY: Duration = Duration::from_millis(250);
/// Browsers drop events without data.
const NOTHING: &str = "{}";
const RENEW: Duration = Duration::from_secs(4);
const TOPICS: [Topic; 6] = [
    Topic::Hunts,
    Topic::Progress,
    Topic::Directory,
    Topic::Cluster,
    Topic::Access,
    Topic::Schedules,
];

type Events = mpsc::Sender<std::result::Result<Event, Infallible>>;

/// Events `hunts`, `progress`, `directory`, `cluster`, `access`, `schedules`, their content always `{}`:
/// something of that kind changed. `all`: changes may have been missed.
#[utoipa::path(get, path = "/updates", operation_id = "updates", tag = "system",
    responses((status = OK, description = "Events.", content_type = "text/event-stream",
        body = String)))]
pub(crate) async fn watch(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>> + use<>>> {
    let place = state.pages.take(caller.principal.user_no)?;
    let (reader, events) = mpsc::channel(16);
    state.tasks.spawn(tell(state.clone(), caller, reader));
    // The place is taken until the connection ends, also when nobody tells it anything any more.
    let events = ReceiverStream::new(events).map(move |event| {
        let _kept = &place;
        event
    });
    Ok(Sse::new(events).keep_alive(keep_alive()))
}

async fn tell(state: ApiState, caller: Caller, reader: Events) {
    let mut hints = state.bus.subscribe(&TOPICS);
    let mut changed: BTreeSet<&str> = BTreeSet::from(["all"]);
    let (mut due, mut renew) = (interval(EVERY), interval(RENEW));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = reader.closed() => return,
            () = state.shutdown.cancelled() => return,
            hint = hints.next() => match hint {
                Some(Hint::Message(topic, _)) => changed.extend(word(&topic)),
                Some(Hint::Gap) => drop(changed.insert("all")),
                None => return,
            },
            _ = due.tick(), if !changed.is_empty() => {
                for word in std::mem::take(&mut changed) {
                    if !send(&reader, Event::default().event(word).data(NOTHING)).await {
                        return;
                    }
                }
            }
            _ = renew.tick() => {
                let (token, now) = (caller.principal.token_no, caller.now());
                // While the store is away nothing changes that could be told.
                if let Ok(false) = store::is_live(&state.catalog, token, now).await {
                    return;
                }
            }
        }
    }
}

fn word(topic: &Topic) -> Option<&'static str> {
    match topic {
        Topic::Hunts => Some("hunts"),
        Topic::Progress => Some("progress"),
        Topic::Directory => Some("directory"),
        Topic::Cluster => Some("cluster"),
        Topic::Access => Some("access"),
        Topic::Schedules => Some("schedules"),
        _ => None,
    }
}
