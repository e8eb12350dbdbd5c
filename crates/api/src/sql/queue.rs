//! Who runs a query now, and who waits.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::SqlOptions;
use crate::problem::{Code, Problem, Result};

/// An account by its number; `None` is this server, which asks for rules and the like.
type Account = Option<i64>;

/// When to come again, in seconds.
const AGAIN_S: u32 = 2;

/// Bounds how many children live at once, and shares them between accounts.
///
/// One account never has the last of several slots, nor more than half of the places to wait, so that long
/// queries of one keep nobody else out. A slot that becomes free goes to whoever has the fewest; of those, to
/// who came first.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Slots that one account may have.
    share: usize,
    /// Places to wait: of all, and of one account.
    places: (usize, usize),
    running: HashMap<Account, usize>,
    /// In the order they came. Nobody in here could run while a slot is free.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    account: Account,
    call: oneshot::Sender<Slot>,
}

impl Queue {
    pub(crate) fn new(options: &SqlOptions) -> Self {
        let free = options.concurrent.max(1);
        Self(Arc::new(Mutex::new(State {
            free,
            share: (free - 1).max(1),
            places: (options.waiting, options.waiting.div_ceil(2)),
            running: HashMap::new(),
            waiting: Vec::new(),
        })))
    }

    /// Waits for a slot; refuses when too many wait.
    ///
    /// # Cancel safety
    /// Safe: who stops waiting loses the place, and a slot that was just given goes to the next.
    pub(super) async fn take(&self, account: Account) -> Result<Slot> {
        let called = {
            let mut state = self.0.lock();
            if state.may_run(account) {
                return Ok(self.slot(&mut state, account));
            }
            state.waiting.retain(|one| !one.call.is_closed());
            let (of_all, of_account) = state.places;
            let own = state.waiting.iter().filter(|one| one.account == account).count();
            let detail = if state.waiting.len() >= of_all {
                "too many queries wait already; try again in a moment"
            } else if own >= of_account {
                "too many of your queries wait already; try again when one has ended"
            } else {
                ""
            };
            if !detail.is_empty() {
                return Err(Problem::new(Code::TooMany, detail).retry_after(AGAIN_S));
            }
            let (call, called) = oneshot::channel();
            state.waiting.push(Waiting { account, call });
            called
        };
        called.await.map_err(|_| Problem::unavailable("the server is shutting down", ""))
    }

    fn slot(&self, state: &mut State, account: Account) -> Slot {
        state.free -= 1;
        *state.running.entry(account).or_default() += 1;
        Slot { queue: self.clone(), account }
    }

    /// Takes a slot back, and gives what is free to those who may have it, before anybody else comes.
    fn give_back(&self, account: Account) {
        let mut called = Vec::new();
        {
            let mut state = self.0.lock();
            state.give_back(account);
            while let Some(next) = state.next() {
                let Waiting { account, call } = state.waiting.remove(next);
                called.push((call, self.slot(&mut state, account)));
            }
        }
        for (call, slot) in called {
            // Comes back when the one who waited has just gone; dropped without the lock, it goes on.
            drop(call.send(slot));
        }
    }
}

impl State {
    fn has(&self, account: Account) -> usize {
        self.running.get(&account).copied().unwrap_or_default()
    }

    fn may_run(&self, account: Account) -> bool {
        self.free > 0 && self.has(account) < self.share
    }

    fn give_back(&mut self, account: Account) {
        self.free += 1;
        if let Some(count) = self.running.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&account);
            }
        }
    }

    /// Whose turn it is.
    fn next(&self) -> Option<usize> {
        let may = |(_, one): &(usize, &Waiting)| self.may_run(one.account);
        let waiting = self.waiting.iter().enumerate().filter(may);
        waiting.min_by_key(|(_, one)| self.has(one.account)).map(|(index, _)| index)
    }
}

/// A child may live until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    queue: Queue,
    account: Account,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queue.give_back(self.account);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const ANN: Account = Some(1);
    const BEN: Account = Some(2);
    const CLEO: Account = Some(3);

    type Taking<'a> = Pin<Box<dyn Future<Output = Result<Slot>> + 'a>>;

    fn queue(concurrent: usize, waiting: usize) -> Queue {
        Queue::new(&SqlOptions { concurrent, waiting, ..SqlOptions::default() })
    }

    fn wants(queue: &Queue, account: Account) -> Taking<'_> {
        Box::pin(queue.take(account))
    }

    /// The slot, if there is one by now.
    fn look(taking: &mut Taking<'_>) -> Option<Slot> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => Some(slot.expect("a slot")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_account_never_has_the_last_slot() {
        let queue = queue(3, 16);
        let mut anns: Vec<_> = (0..3).map(|_| wants(&queue, ANN)).collect();
        let slots: Vec<_> = anns.iter_mut().map(look).collect();
        assert_eq!(slots.iter().flatten().count(), 2);
        let ben = look(&mut wants(&queue, BEN)).expect("the last one");
        // Everything is taken; what Ben gives back is no more Ann's than before.
        drop(ben);
        assert!(look(&mut anns[2]).is_none());
        drop(slots);
        assert!(look(&mut anns[2]).is_some());
    }

    #[test]
    fn a_single_slot_is_everybodys() {
        let queue = queue(1, 16);
        let ann = look(&mut wants(&queue, ANN)).expect("the slot");
        let mut ben = wants(&queue, BEN);
        assert!(look(&mut ben).is_none());
        drop(ann);
        assert!(look(&mut ben).is_some());
    }

    #[test]
    fn who_has_the_fewest_is_next_and_then_who_came_first() {
        let queue = queue(2, 16);
        let (ann, ben) = (look(&mut wants(&queue, ANN)), look(&mut wants(&queue, BEN)));
        let mut waiting: Vec<_> =
            [ANN, ANN, CLEO, None].into_iter().map(|who| wants(&queue, who)).collect();
        assert!(waiting.iter_mut().all(|one| look(one).is_none()));
        // Ann has one already, which is her share of two.
        drop(ben);
        let cleo = look(&mut waiting[2]).expect("it is Cleo's turn");
        assert!([0, 1, 3].iter().all(|index| look(&mut waiting[*index]).is_none()));
        // Now Ann came first of those with none.
        drop(ann);
        let ann = look(&mut waiting[0]).expect("it is Ann's turn");
        drop((ann, cleo));
        assert!(look(&mut waiting[1]).is_some() && look(&mut waiting[3]).is_some());
    }

    #[test]
    fn who_stops_waiting_takes_no_slot_along() {
        let queue = queue(1, 2);
        let ann = look(&mut wants(&queue, ANN));
        let mut gone = wants(&queue, BEN);
        assert!(look(&mut gone).is_none());
        drop(gone);
        let (mut called, mut ben) = (wants(&queue, CLEO), wants(&queue, BEN));
        assert!(look(&mut called).is_none() && look(&mut ben).is_none());
        // Called, and gone before it heard of it.
        drop(ann);
        assert!(look(&mut ben).is_none());
        drop(called);
        assert!(look(&mut ben).is_some());
        let state = queue.0.lock();
        assert_eq!((state.free, state.running.len(), state.waiting.len()), (1, 0, 0));
    }

    #[test]
    fn places_to_wait_are_bounded_for_all_and_for_one() {
        let queue = queue(1, 4);
        let _ann = look(&mut wants(&queue, ANN));
        let refused = |account| {
            let mut taking = wants(&queue, account);
            match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Some(answer.expect_err("no slot").detail().to_owned()),
                Poll::Pending => None,
            }
        };
        let mut waiting: Vec<_> =
            [ANN, ANN, BEN].into_iter().map(|who| wants(&queue, who)).collect();
        assert!(waiting.iter_mut().all(|one| look(one).is_none()));
        assert!(refused(ANN).expect("two wait").contains("of your queries"));
        let mut last = wants(&queue, CLEO);
        assert!(look(&mut last).is_none());
        assert!(refused(BEN).expect("four wait").contains("try again"));
        // Whoever left made room.
        waiting.clear();
        assert_eq!(refused(ANN), None);
    }
}
