//! Distributed write: answers to what an agent took.

use std::sync::Arc;

use muster_codec_osquery::{QueryId, WriteRequest, wire};
use muster_gateway::http::Answer;
use muster_gateway::{Admission, Message};
use muster_types::{Class, TaskId};

use crate::log::unread_key;
use crate::refusal::{Refusal, taken};
use crate::service::Post;
use crate::{Osquery, vitals};

impl Osquery {
    pub(crate) async fn write(self: Arc<Self>, post: Post) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let (keep, unpacked) = (self.options.write_bytes_max, self.options.log_unpacked_max);
        let early = self.caller_by_header(&post, now)?;
        let (mut post, read) = self
            .read_off(post, keep, move |post| {
                let body = post.body(keep, unpacked);
                let request = WriteRequest::parse(&body);
                let request = request.map_err(|error| (error, unread_key(post, &body.head)))?;
                let payload = wire::write(&request);
                Ok((request, payload))
            })
            .await?;
        let (request, payload) = match read {
            Ok(read) => read,
            Err((error, key)) => {
                return self.drop_unread(&post, "distributed/write", &error, key, now).await;
            }
        };
        let caller = match early {
            Some(caller) => caller,
            None => self.caller(&post, &request.node_key, now)?,
        };
        let offer = post.introduced(payload.len());
        let agent = caller.agent();
        let tasks = tasks(&request);
        let class = if tasks.is_empty() { Class::Scheduled } else { Class::Collected };
        let admitted = self.admissions.ask_with(agent.no, class, payload.len(), offer);
        let _permit = match admitted {
            Admission::Go(permit) => permit,
            Admission::Wait { at_least } => return Err(Refusal::later("busy", at_least)),
            Admission::Refuse { retry_after } => {
                return Err(Refusal::later("no room for answers now", retry_after));
            }
            // The bound of this protocol is far below the one of all.
            Admission::TakeAndDrop { recorded } => return Err(Refusal::Malformed(recorded.into())),
        };
        let message = |class, payload| Message { class, received_at: now, payload };
        let mut messages = Vec::new();
        if !request.answers.is_empty() {
            messages.push(message(class, payload));
        }
        let has_details = has_details(&request);
        let known = caller.node.known.as_deref();
        let report =
            known.and_then(|known| Some((known, vitals::reported(known, &request.answers)?)));
        let dropped = request.dropped;
        // The payload is a copy of it; it need not be there twice.
        drop((request.answers, std::mem::take(&mut post.body)));
        if let Some(note) = &dropped {
            tracing::warn!(agent = %agent.no, note, "answers dropped");
            messages.push(message(Class::Status, wire::dropped("distributed/write", note)));
        }
        if !messages.is_empty() {
            let _turn = self.turn(agent.no).await;
            self.ingest.append(agent, messages).await?;
        }
        self.delivery.answered(agent, tasks);
        if has_details {
            self.details.answered();
        }
        if let Some((known, report)) = report {
            self.note(known, &report).await;
        }
        Ok(taken())
    }
}

/// Whether questions of [`crate::Details`] are answered.
fn has_details(request: &WriteRequest) -> bool {
    let ids = request.answers.iter().filter_map(|answer| QueryId::parse(&answer.id));
    ids.into_iter().any(|id| matches!(id, QueryId::Inventory { .. } | QueryId::Policy(_)))
}

/// The hunts that are answered.
fn tasks(request: &WriteRequest) -> Vec<TaskId> {
    let task = |answer: &muster_codec_osquery::QueryAnswer| match QueryId::parse(&answer.id) {
        Some(QueryId::Hunt(task)) => Some(task),
        _ => None,
    };
    request.answers.iter().filter_map(task).collect()
}
