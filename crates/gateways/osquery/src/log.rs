//! Log: lines an agent leaves.

use std::sync::Arc;

use muster_codec_osquery::{LogRequest, LogType, wire};
use muster_gateway::http::Answer;
use muster_gateway::{Admission, Message};
use muster_types::{Class, Timestamp};

use crate::auth::{Caller, last_key};
use crate::refusal::{Refusal, taken};
use crate::service::Post;
use crate::{Osquery, capabilities};

impl Osquery {
    pub(crate) async fn log(self: Arc<Self>, post: Post) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let (keep, unpacked) = (self.options.log_bytes_max, self.options.log_unpacked_max);
        let early = self.caller_by_header(&post, now)?;
        let (mut post, read) = self
            .read_off(post, keep, move |post| {
                let body = post.body(keep, unpacked);
                let request = LogRequest::parse(&body);
                let request = request.map_err(|error| (error, unread_key(post, &body.head)))?;
                let flags = match request.log_type {
                    LogType::Result => capabilities::flags(request.data()),
                    LogType::Status => None,
                };
                Ok((request, flags))
            })
            .await?;
        let (request, flags) = match read {
            Ok(read) => read,
            Err((error, key)) => return self.drop_unread(&post, "log", &error, key, now).await,
        };
        let caller = match early {
            Some(caller) => caller,
            None => self.caller(&post, &request.node_key, now)?,
        };
        let (length, line_count) = (request.data().len(), request.line_count);
        let offer = post.introduced(length);
        let class = match request.log_type {
            LogType::Result => Class::Scheduled,
            LogType::Status => Class::Status,
        };
        let admitted = self.admissions.ask_with(caller.node.agent, class, length, offer);
        let (_permit, note) = match admitted {
            Admission::Go(permit) => (Some(permit), request.dropped.clone()),
            // A note would be one more of what there is no room for.
            Admission::TakeAndDrop { .. } if class == Class::Status => {
                self.metrics.status_dropped.add(line_count.into());
                return Ok(taken());
            }
            Admission::TakeAndDrop { recorded } => (None, Some(recorded.to_owned())),
            Admission::Wait { at_least } => return Err(Refusal::later("busy", at_least)),
            Admission::Refuse { retry_after } => {
                return Err(Refusal::later("no room for logs now", retry_after));
            }
        };
        let message = |class, payload| Message { class, received_at: now, payload };
        let mut messages = Vec::new();
        if _permit.is_some() && line_count > 0 {
            // Nobody else has the body then, so that it need not be there twice.
            drop(std::mem::take(&mut post.body));
            messages.push(message(class, wire::log(request)));
        }
        if let Some(note) = note {
            tracing::warn!(agent = %caller.node.agent, note, "log lines dropped");
            // After "log" lines of results are gone, and what they added up to is not complete.
            let source = if class == Class::Status { "status log" } else { "log" };
            messages.push(message(Class::Status, wire::dropped(source, &note)));
        }
        if messages.is_empty() {
            return Ok(taken());
        }
        let turn = self.turn(caller.node.agent).await;
        self.ingest.append(caller.agent(), messages).await?;
        drop(turn);
        self.end_unasked(caller.agent(), caller.node.known.as_deref()).await;
        if let (Some(agent), Some(flags)) = (caller.node.known.as_deref(), flags) {
            self.note(agent, &capabilities::reported(agent, flags)).await;
        }
        Ok(taken())
    }

    /// Who sent a request, by its header or what was read of its body.
    pub(crate) fn caller(
        &self,
        post: &Post,
        body_key: &str,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        self.authenticate(post.key.as_deref(), body_key, post.source.has_certificate, now)
    }

    /// Who sent a request, when its header says so: nothing is done with a body before.
    pub(crate) fn caller_by_header(
        &self,
        post: &Post,
        now: Timestamp,
    ) -> Result<Option<Caller>, Refusal> {
        post.key.as_deref().map(|_| self.caller(post, "", now)).transpose()
    }

    /// A request of a known agent that cannot be read: it is taken off its hands and recorded, because
    /// it would come again for ever. Nothing is taken of one that nobody proved to be theirs.
    pub(crate) async fn drop_unread(
        &self,
        post: &Post,
        what: &str,
        error: &muster_codec_osquery::Error,
        key: Option<String>,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        self.metrics.malformed.inc();
        if post.key.is_none() && key.is_none() {
            return Err(Refusal::Malformed(error.to_string()));
        }
        let caller = self.caller(post, &key.unwrap_or_default(), now)?;
        let bytes = post.content_length;
        let note = format!("a request of {bytes} bytes could not be read and was dropped: {error}");
        tracing::warn!(agent = %caller.node.agent, note, "request dropped");
        let payload = wire::dropped(what, &note);
        let message = Message { class: Class::Status, received_at: now, payload };
        self.ingest.append(caller.agent(), vec![message]).await?;
        Ok(taken())
    }
}

/// The key at the end of a body that cannot be read otherwise.
pub(crate) fn unread_key(post: &Post, head: &[u8]) -> Option<String> {
    if post.key.is_some() {
        return None;
    }
    last_key(&post.tail).or_else(|| last_key(head))
}
