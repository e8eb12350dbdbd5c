//! Tasks that were put into their protocol already.

use std::collections::HashMap;

use muster_hunts::HuntDef;
use muster_types::{AgentKind, TaskId};
use parking_lot::Mutex;

use crate::{Gateway, TaskBytes, Unsupported};

/// Kept; when there are more all are made anew, which costs microseconds each.
const KEPT_MAX: usize = 1024;

type Made = HashMap<(TaskId, AgentKind), Result<TaskBytes, Unsupported>>;

/// A cache: one compilation per task and agent kind.
#[derive(Debug, Default)]
pub(super) struct Compiled(Mutex<Made>);

impl Compiled {
    pub(super) fn get(
        &self,
        hunt: &HuntDef,
        task: TaskId,
        gateway: &dyn Gateway,
    ) -> Result<TaskBytes, Unsupported> {
        let mut made = self.0.lock();
        if made.len() >= KEPT_MAX {
            made.clear();
        }
        made.entry((task, gateway.kind())).or_insert_with(|| gateway.compile(hunt, task)).clone()
    }
}
