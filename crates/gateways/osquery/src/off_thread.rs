//! Reading bodies where it does not hold up others.

use std::time::Duration;

use muster_gateway::{Offer, Refusal as Counted};

use crate::Osquery;
use crate::refusal::Refusal;
use crate::service::Post;

/// Bodies from here on are read on a thread of their own.
const BLOCKING_FROM: usize = 64 << 10;
/// What is packed may be so many times as long.
const PACKED_TIMES: usize = 1024;

impl Post {
    /// What was done about its bytes, now that its sender is known and so many are left of it.
    pub(crate) fn introduced(&mut self, left: usize) -> Offer {
        let mut held = self.permit.take();
        if let Some(permit) = &mut held {
            permit.introduce();
            if self.is_gzip {
                permit.shrink(left);
            }
        }
        Offer { held, paid: self.paid }
    }
}

impl Osquery {
    /// Reads a body of which `keep` bytes are kept unpacked, on another thread when that takes long.
    /// There are so many places, see [`Readers`](crate::readers::Readers), and others wait their turn: a post
    /// with a key in its header, which must be judged by then, among its like. What is packed takes room
    /// for all that may come out of it.
    pub(crate) async fn read_off<T: Send + 'static>(
        &self,
        mut post: Post,
        keep: usize,
        read: impl FnOnce(&Post) -> T + Send + 'static,
    ) -> Result<(Post, T), Refusal> {
        let times = if post.is_gzip { PACKED_TIMES } else { 1 };
        if post.body.len() * times < BLOCKING_FROM {
            let done = read(&post);
            return Ok((post, done));
        }
        let busy = || {
            self.metrics.refused_by(muster_types::AgentKind::Osquery, Counted::Budget);
            Refusal::later("busy", Duration::from_secs(5))
        };
        let turn = match post.key {
            _ if post.is_block => self.readers.block().await,
            Some(_) => self.readers.known().await,
            None => self.readers.stranger().await.ok_or_else(busy)?,
        };
        if post.is_gzip {
            let budget = self.admissions.budget();
            let budget = if post.key.is_some() { budget } else { budget.strangers() };
            let room = post.body.len() + keep;
            if !budget.try_grow(&mut post.permit, room) {
                return Err(busy());
            }
        }
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let done = read(&post);
            (post, done)
        });
        let ended = |error: tokio::task::JoinError| {
            tracing::error!(%error, "a request could not be read");
            Refusal::later("the request could not be read now", Duration::from_secs(5))
        };
        work.await.map_err(ended)
    }
}
