//! Answers of agents that poll, told to the other instances: behind a balancer such an agent asks another
//! one each time, which would hand it the same task until the fold tells of the answer.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_bus::{Bus, Hint, Topic};
use muster_types::{AgentNo, AgentSet, HuntNo, TaskId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Delivery;

/// Answers gather this long: those to one hunt make few hints.
const GATHER: Duration = Duration::from_millis(20);
const VERSION: u8 = 1;

/// Answers that the other instances have not been told of.
#[derive(Default)]
pub(super) struct Untold {
    answers: Mutex<HashMap<TaskId, AgentSet>>,
    filled: Notify,
}

impl Untold {
    pub(super) fn insert(&self, agent: AgentNo, task: TaskId) {
        self.answers.lock().entry(task).or_default().insert(agent);
        self.filled.notify_one();
    }
}

impl Delivery {
    /// Tells the other instances, and hears of them. A lost hint costs a repeated query.
    pub(super) async fn share(&self, bus: &dyn Bus) {
        let mut hints = bus.subscribe(&[Topic::Answered]);
        loop {
            tokio::select! {
                () = self.untold.filled.notified() => {
                    tokio::time::sleep(GATHER).await;
                    let answers = std::mem::take(&mut *self.untold.answers.lock());
                    for (task, agents) in answers {
                        bus.publish(Topic::Answered, encode(task, &agents));
                    }
                }
                hint = hints.next() => match hint {
                    Some(Hint::Message(_, content)) => if let Some((task, agents)) = decode(content) {
                        for agent in agents.iter() {
                            self.note_answer(agent, task);
                        }
                    },
                    Some(Hint::Gap) => {}
                    None => return,
                },
            }
        }
    }
}

fn encode(task: TaskId, agents: &AgentSet) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_u64_le(task.hunt.0);
    out.put_u16_le(task.attempt);
    out.put_slice(&agents.to_bytes());
    out.freeze()
}

/// `None` for nothing, and for what another version wrote: a hint may be ignored.
fn decode(mut content: Bytes) -> Option<(TaskId, AgentSet)> {
    if content.try_get_u8().ok()? != VERSION {
        return None;
    }
    let hunt = HuntNo(content.try_get_u64_le().ok()?);
    let attempt = content.try_get_u16_le().ok()?;
    Some((TaskId { hunt, attempt }, AgentSet::from_bytes(&content).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_back_or_is_ignored() {
        let task = TaskId { hunt: HuntNo(7), attempt: 2 };
        let agents: AgentSet = [3, 70_000].map(AgentNo).into_iter().collect();
        let bytes = encode(task, &agents);
        assert_eq!(decode(bytes.clone()), Some((task, agents)));
        for length in 0..bytes.len() {
            assert_eq!(decode(bytes.slice(..length)), None, "{length}");
        }
        let mut newer = bytes.to_vec();
        newer[0] += 1;
        assert_eq!(decode(newer.into()), None);
    }
}
