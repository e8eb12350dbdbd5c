//! The servers an agent may talk to, and which one is next.

use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::time::Instant;

use crate::Backoff;
use crate::transport::ServerUrl;

/// Servers with the time from which each may be tried.
///
/// One that cannot be reached, or sends us away, says nothing about the others: the next is the one
/// that may be tried soonest, after a short wait only, so that many agents that lost the same server do
/// not meet the next one together.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The one that is tried first, then the others in their order.
    all: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    url: ServerUrl,
    failures: u32,
    not_before: Instant,
}

impl Servers {
    /// In any order: agents spread over them.
    pub(crate) fn shuffled(urls: &[ServerUrl]) -> Self {
        let not_before = Instant::now();
        let candidate = |url: &ServerUrl| Candidate { url: url.clone(), failures: 0, not_before };
        let mut all: Vec<Candidate> = urls.iter().map(candidate).collect();
        all.shuffle(&mut rand::rng());
        Self { all }
    }

    /// The one to try.
    pub(crate) fn current(&self) -> Option<&ServerUrl> {
        self.all.first().map(|candidate| &candidate.url)
    }

    /// All of them, this one first.
    pub(crate) fn all(&self) -> Vec<ServerUrl> {
        self.all.iter().map(|candidate| candidate.url.clone()).collect()
    }

    /// The one that was tried had us for a good while: its next failure counts as the first.
    pub(crate) fn was_good(&mut self) {
        if let Some(current) = self.all.first_mut() {
            current.failures = 0;
        }
    }

    /// The one that was tried does not have us, and perhaps asked to come again after some time. Goes on
    /// to the next, and says how long to wait for it.
    pub(crate) fn next(&mut self, asked: Option<Duration>, backoff: Backoff) -> Duration {
        let now = Instant::now();
        let Some(current) = self.all.first_mut() else { return backoff.last };
        let url = current.url.clone();
        current.put_off(asked, backoff, now);
        let soonest =
            self.all.iter().enumerate().skip(1).chain(self.all.iter().enumerate().take(1));
        let next =
            soonest.min_by_key(|(_, candidate)| candidate.not_before).map_or(0, |(at, _)| at);
        self.all.rotate_left(next);
        let Some(next) = self.all.first() else { return backoff.last };
        let wait = next.not_before.saturating_duration_since(now);
        if next.url == url { wait } else { wait.max(backoff.wait(1)) }
    }

    /// The same after all were tried.
    pub(crate) fn again(&mut self, asked: Option<Duration>, backoff: Backoff) -> Duration {
        let now = Instant::now();
        self.all.iter_mut().for_each(|candidate| candidate.put_off(asked, backoff, now));
        let soonest = self.all.iter().map(|candidate| candidate.not_before).min();
        soonest.map_or(backoff.last, |at| at.saturating_duration_since(now))
    }
}

impl Candidate {
    fn put_off(&mut self, asked: Option<Duration>, backoff: Backoff, now: Instant) {
        let wait = match asked {
            Some(asked) => Backoff::asked(asked).max(backoff.wait(1)),
            None => {
                self.failures = self.failures.saturating_add(1);
                backoff.wait(self.failures)
            }
        };
        self.not_before = now + wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    fn servers(of: &[&str]) -> Servers {
        Servers::shuffled(&of.iter().map(|url| url.parse().unwrap()).collect::<Vec<_>>())
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_come_first_and_each_keeps_its_own_time() {
        let backoff = Backoff::default();
        let mut servers = servers(&["https://a:1", "https://b:1", "https://c:1"]);
        let away = servers.current().unwrap().clone();
        let half_an_hour = Some(Duration::from_secs(1800));
        assert!(servers.next(half_an_hour, backoff) <= backoff.first);
        // The other two die again and again, for less than half an hour: who asked for that gets it.
        for _ in 0..20 {
            assert_ne!(*servers.current().unwrap(), away);
            let wait = servers.next(None, backoff);
            assert!(wait <= backoff.last);
            tokio::time::advance(wait).await;
        }
        servers.next(HOUR, backoff);
        let wait = servers.next(HOUR, backoff);
        assert_eq!(*servers.current().unwrap(), away);
        assert!(wait > Duration::from_secs(500), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_alone_is_waited_for() {
        let backoff = Backoff::default();
        let mut alone = servers(&["https://a:1"]);
        assert!(alone.next(HOUR, backoff) >= Duration::from_secs(3600));
        assert!(alone.next(None, backoff) <= backoff.first);
        let mut both = servers(&["https://a:1", "https://b:1"]);
        assert!(both.again(HOUR, backoff) >= Duration::from_secs(3600));
        assert_eq!(both.all().len(), 2);
    }
}
