//! Hunts in the native agent's own terms.

use bytes::Bytes;
use muster_codec_native::{Cancel, ServerFrame, Task, TaskLimits};
use muster_gateway::{Gateway, Redelivery, TaskBytes, Unsupported};
use muster_hunts::HuntDef;
use muster_types::{AgentKind, TaskId};

/// The native gateway's part in handing out work. A task names no agent, so its frame is the same for
/// all of them and is written once.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeGateway;

impl Gateway for NativeGateway {
    fn kind(&self) -> AgentKind {
        AgentKind::Native
    }

    fn compile(&self, hunt: &HuntDef, task: TaskId) -> Result<TaskBytes, Unsupported> {
        let source = hunt.sources.get(&AgentKind::Native).ok_or_else(|| {
            Unsupported::new(format!("{} has no source for native agents", hunt.title))
        })?;
        let params = hunt
            .parameters
            .iter()
            .map(|(name, value)| serde_json::to_value(value).map(|value| (name.clone(), value)));
        let params = params
            .collect::<Result<_, _>>()
            .map_err(|error| Unsupported::new(format!("a parameter cannot be sent: {error}")))?;
        let limits = TaskLimits {
            timeout_ms: hunt.limits.task_timeout_ms,
            rows: hunt.limits.task_rows_max,
            bytes: hunt.limits.task_bytes_max,
            memory_bytes: hunt.limits.task_memory_bytes,
        };
        let frame = Task { task, query: source.query.clone(), params, limits };
        let bytes = ServerFrame::from(frame).encode().map_err(|error| {
            Unsupported::new(format!("the task does not fit into a frame: {error}"))
        })?;
        Ok(TaskBytes(bytes))
    }

    fn cancel(&self, task: TaskId) -> Option<Bytes> {
        ServerFrame::from(Cancel { task }).encode().ok()
    }

    fn redelivery(&self) -> Redelivery {
        Redelivery::Repeat
    }
}
