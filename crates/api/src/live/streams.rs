//! How many streams there may be, and how long one waits for its reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use parking_lot::Mutex;

use super::feed::Events;
use crate::problem::{Code, Problem, Result};

/// Streams of one account: a page follows one, and a person has a few pages open.
const OF_ACCOUNT_MAX: usize = 16;
/// Streams of this instance. What waits for a reader of rows that takes nothing comes to 10 MiB, so all of them
/// together hold 2.5 GiB at worst.
const MAX: usize = 256;
/// A reader that has not taken an event by then is taken for gone.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// When to come again: streams end with their hunts and pages.
const AGAIN_S: u32 = 10;

/// The streams of one kind that are open, by account.
#[derive(Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<i64, usize>>>);

impl Streams {
    /// A place for one more, until it is dropped.
    pub(crate) fn take(&self, user_no: i64) -> Result<Place> {
        let mut open = self.0.lock();
        let busy = |detail: String| Problem::new(Code::TooMany, detail).retry_after(AGAIN_S);
        if open.get(&user_no).is_some_and(|count| *count >= OF_ACCOUNT_MAX) {
            let detail = format!("you have {OF_ACCOUNT_MAX} such streams open; close one of them");
            return Err(busy(detail));
        }
        if open.values().sum::<usize>() >= MAX {
            return Err(busy(
                "too many such streams are open on this server; try again later".to_owned(),
            ));
        }
        *open.entry(user_no).or_default() += 1;
        Ok(Place { open: Arc::clone(&self.0), user_no })
    }
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Mutex<HashMap<i64, usize>>>,
    user_no: i64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.user_no) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user_no);
            }
        }
    }
}

/// Sends an event; whether the reader is still there.
pub(crate) async fn send(reader: &Events, event: Event) -> bool {
    send_within(reader, event, TAKEN_WITHIN).await
}

async fn send_within(reader: &Events, event: Event, time: Duration) -> bool {
    reader.send_timeout(Ok(event), time).await.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn an_account_has_its_bound_and_the_instance_another() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..OF_ACCOUNT_MAX).map(|_| streams.take(1).unwrap()).collect();
        assert_eq!(streams.take(1).unwrap_err().code(), Code::TooMany);
        for user_no in 2.. {
            let taken = (0..OF_ACCOUNT_MAX).map_while(|_| streams.take(user_no).ok());
            let before = places.len();
            places.extend(taken);
            if places.len() == before {
                break;
            }
        }
        assert_eq!(places.len(), MAX);
        places.swap_remove(0);
        places.push(streams.take(1).unwrap());
        assert!(streams.take(1000).is_err(), "all places are taken again");
        places.clear();
        assert!(streams.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_taken_for_gone() {
        let (reader, mut events) = mpsc::channel(1);
        let time = Duration::from_millis(20);
        assert!(send_within(&reader, Event::default(), time).await);
        assert!(!send_within(&reader, Event::default(), time).await, "nobody reads");
        assert!(events.recv().await.is_some());
        assert!(send_within(&reader, Event::default(), time).await);
        drop(events);
        assert!(!send_within(&reader, Event::default(), time).await);
    }
}
