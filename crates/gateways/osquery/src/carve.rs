//! File carving: an upload in blocks.
//!
//! Blocks come without a key; their session proves whose they are. Agents do not look at `error` in these answers:
//! whatever JSON they get for a block is success to them, and JSON without a session for a beginning is the end of
//! the carve. What is not JSON makes them send it again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_codec_osquery::{CarveBegin, CarveBlock, answer, wire};
use muster_endpoints::AgentState;
use muster_gateway::http::Answer;
use muster_gateway::{Admission, AgentRef, Message};
use muster_types::{AgentKind, Class};
use muster_uploads::{Error, NewUpload, Standing};

use crate::Osquery;
use crate::refusal::{Refusal, with};
use crate::service::Post;

impl Osquery {
    pub(crate) async fn carve_begin(self: Arc<Self>, post: Post) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let carve = CarveBegin::parse(&post.body)?;
        let agent = self.caller(&post, &carve.node_key, now)?.agent();
        let new = NewUpload {
            kind: "carve",
            external_id: carve.carve_id,
            block_count: carve.block_count,
            block_size: carve.block_size,
            byte_count: carve.carve_size,
        };
        let session = self.uploads.begin(agent.org, agent.no, &new, now).await;
        let session = session.map_err(|error| {
            tracing::warn!(agent = %agent.no, %error, "an upload was refused");
            match error {
                // To come again changes nothing.
                Error::TooLarge { .. } | Error::Blocks(_) | Error::Over(_) => {
                    Refusal::Malformed(error.to_string())
                }
                error => Refusal::later(error.to_string(), Duration::from_secs(5)),
            }
        })?;
        Ok(with(answer::carve_session(&session)))
    }

    /// A beginning that may succeed later.
    pub(crate) fn carve_refused(&self, refusal: &Refusal) -> Answer {
        match refusal.answer() {
            later if matches!(refusal, Refusal::Later { .. }) => {
                Answer { retry_after: later.retry_after, ..failed(later.status) }
            }
            answer => answer,
        }
    }

    pub(crate) fn block_refused(&self, refusal: &Refusal) -> Answer {
        self.metrics.blocks_refused.inc();
        tracing::debug!(%refusal, "a block of an upload was refused");
        failed(refusal.answer().status)
    }

    pub(crate) async fn carve_block(self: Arc<Self>, mut post: Post) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        // Blocks come as they are.
        post.is_gzip = false;
        // Nor with a key: one in the header is nobody's until it is judged.
        post.key = None;
        let uploads = self.uploads.clone();
        let (mut post, read) = self
            .read_off(post, 0, move |post| -> Result<_, Refusal> {
                let block = CarveBlock::parse(&post.body)?;
                let session = uploads.session(&block.session_id).ok_or(Refusal::Invalid)?;
                let bytes = block.bytes()?;
                if !session.admits(block.block_id, bytes.len()) {
                    return Err(Refusal::Malformed("the upload has no such block".to_owned()));
                }
                let (upload, count) = (session.upload, session.block_count);
                Ok((session, wire::block(upload, block.block_id, count, &bytes)))
            })
            .await?;
        let (session, payload) = read?;
        let offer = post.introduced(payload.len());
        let known = self.directory.current().agent(session.agent).map(|agent| agent.state);
        if known.is_some_and(|state| state != AgentState::Active) {
            return Err(Refusal::Blocked);
        }
        self.presence.touch(session.agent, now);
        match self.uploads.standing(&session, now).await {
            Standing::Whole => return Ok(with(answer::BLOCK_TAKEN)),
            Standing::Over => return Err(Refusal::NotAllowed("the upload is over".to_owned())),
            Standing::Open => {}
        }
        let class = Class::Collected;
        let agent = AgentRef { org: session.org, no: session.agent, kind: AgentKind::Osquery };
        let _permit = match self.admissions.ask_with(agent.no, class, payload.len(), offer) {
            Admission::Go(permit) => permit,
            Admission::Wait { at_least } => return Err(Refusal::later("busy", at_least)),
            Admission::Refuse { retry_after } => return Err(Refusal::later("full", retry_after)),
            Admission::TakeAndDrop { recorded } => return Err(Refusal::Malformed(recorded.into())),
        };
        let _turn = self.turn(agent.no).await;
        let message = Message { class, received_at: now, payload };
        self.ingest.append(agent, vec![message]).await?;
        Ok(with(answer::BLOCK_TAKEN))
    }
}

/// A failure that an agent notices: it sends the block again (from 5.22 on).
pub(crate) fn failed(status: u16) -> Answer {
    let body = Bytes::from_static(b"not taken");
    Answer { content_type: "text/plain", ..Answer::new(status, body) }
}
