//! Agents that were blocked or removed lose their connection.

use std::sync::Arc;
use std::time::Duration;

use muster_endpoints::{AgentState, Directory};
use tokio_util::sync::CancellationToken;

use crate::{CloseReason, Sessions};

/// Closes the sessions of agents that may no longer talk to us, within about a second of the directory
/// knowing, until `shutdown`.
pub async fn follow_revocations(
    directory: Directory,
    sessions: Arc<Sessions>,
    shutdown: CancellationToken,
) {
    let mut changes = directory.changes();
    let follow = async {
        while changes.changed().await.is_ok() {
            let snapshot = directory.snapshot();
            for session in sessions.all() {
                let agent = snapshot.agent(session.agent.no);
                // One that the directory has not seen yet has just enrolled.
                if agent.is_some_and(|agent| agent.state != AgentState::Active) {
                    session.close(CloseReason::Revoked);
                }
            }
            // At most one pass a second: while many machines enrol, each one is a change.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    shutdown.run_until_cancelled(follow).await;
}
