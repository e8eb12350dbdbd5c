//! Distributed read: what an agent has to do now.

use std::sync::Arc;

use muster_codec_osquery::{KeyOnly, QueryId, answer};
use muster_endpoints::Agent;
use muster_gateway::Handover;
use muster_gateway::http::{Answer, Called, Request};
use muster_hunts::HuntKind;
use muster_types::{TaskId, Timestamp};

use crate::auth::{Caller, header_key};
use crate::capabilities;
use crate::deps::{DueQuestions, Question};
use crate::packed::packed;
use crate::refusal::{Refusal, with};
use crate::{Osquery, vitals};

/// SQL of one answer; agents take 8 MiB, and what does not fit comes with the next poll.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// While nothing is known of a machine, it is asked to come soon again.
const ACCELERATE_UNKNOWN: u32 = 10;

impl Osquery {
    /// The idle case needs the key, a bit and two loads: no catalog, no bus, nothing allocated that
    /// stays.
    pub(crate) fn read(self: &Arc<Self>, request: &Request<'_>) -> Called {
        let now = self.clock.now();
        let caller = match self.key_only(request, now) {
            Ok(caller) => caller,
            Err(refusal) => return Called::Ready(refusal.answer()),
        };
        let known = caller.node.known.clone();
        self.presence.polled(caller.node.agent, now);
        let due = known.as_deref().and_then(|agent| self.details.due(agent, now));
        let said_off = known.as_deref().is_some_and(capabilities::is_distributed_off);
        if due.is_none() && !said_off && !self.hunts.has_work(caller.node.agent) {
            return Called::Ready(with(answer::NO_QUERIES));
        }
        let (state, accepts_gzip) = (Arc::clone(self), request.head.accepts_gzip);
        self.in_time(async move {
            if let Some(agent) = known.as_deref().filter(|_| said_off) {
                // It asks, so its flag was changed since it was reported.
                state.note(agent, &capabilities::distributed_on(agent)).await;
            }
            let answer = state.work(&caller, due).await;
            Ok(if accepts_gzip { packed(answer).await } else { answer })
        })
    }

    /// Who sends a request that holds little but a key.
    pub(crate) fn key_only(
        &self,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let header = header_key(request.head.authorization);
        let certificate = request.source.has_certificate;
        if header.is_some() {
            return self.authenticate(header, "", certificate, now);
        }
        let body = KeyOnly::parse(&request.body)?;
        self.authenticate(None, &body.node_key, certificate, now)
    }

    /// The answer with everything an agent has to do, told to delivery once it left.
    async fn work(self: &Arc<Self>, caller: &Caller, due: Option<DueQuestions>) -> Answer {
        let agent = caller.agent();
        let mut tasks = self.delivery.take(agent, self.options.tasks_per_poll).await;
        let left = tasks.split_off(fitting(&tasks));
        self.delivery.not_handed_over(agent, left.iter().map(|handover| handover.task));
        let due =
            due.unwrap_or_else(|| DueQuestions { questions: Vec::new(), handed: Box::new(|| ()) });
        if tasks.is_empty() && due.questions.is_empty() {
            (due.handed)();
            return with(answer::NO_QUERIES);
        }
        let known = caller.node.known.as_deref();
        let body = answer_with(&tasks, &due.questions, self.accelerate(known, &tasks));
        let (state, handed) = (Arc::clone(self), due.handed);
        let tasks: Vec<TaskId> = tasks.into_iter().map(|handover| handover.task).collect();
        with(body).and_then(move |left| {
            if left {
                state.delivery.handed_over(agent, tasks);
                handed();
            } else {
                state.delivery.not_handed_over(agent, tasks);
            }
        })
    }

    /// For how long the agent shall poll every five seconds: while somebody waits for its answers.
    fn accelerate(&self, known: Option<&Agent>, tasks: &[Handover]) -> Option<u32> {
        let waits = |task: TaskId| {
            self.hunts.peek(task.hunt).is_some_and(|hunt| hunt.kind != HuntKind::Hunt)
        };
        if tasks.iter().any(|handover| waits(handover.task)) {
            return Some(self.options.accelerate_seconds);
        }
        known.is_some_and(vitals::are_unknown).then_some(ACCELERATE_UNKNOWN)
    }
}

/// How many of these fit into one answer; at least one.
fn fitting(tasks: &[Handover]) -> usize {
    let mut bytes = 0;
    let over = |handover: &Handover| {
        bytes += handover.bytes.len();
        bytes > ANSWER_BYTES_MAX
    };
    tasks.iter().position(over).map_or(tasks.len(), |at| at.max(1))
}

fn answer_with(
    tasks: &[Handover],
    questions: &[Question],
    accelerate: Option<u32>,
) -> bytes::Bytes {
    let ids: Vec<String> = tasks.iter().map(|h| QueryId::Hunt(h.task).to_string()).collect();
    let hunts: Vec<(&str, &str)> =
        ids.iter().zip(tasks).map(|(id, h)| (id.as_str(), text(h))).collect();
    let asked = questions.iter().map(|question| (&*question.id, &*question.sql));
    let probes: Vec<(&str, String)> = questions
        .iter()
        .filter_map(|question| Some((&*question.id, probe(question.needs?))))
        .collect();
    let probes = probes.iter().map(|(id, sql)| (*id, sql.as_str()));
    answer::read(hunts.into_iter().chain(asked), probes, accelerate)
}

fn text(handover: &Handover) -> &str {
    std::str::from_utf8(&handover.bytes).unwrap_or_default()
}

/// Gives a row where a table exists. Asking the table itself would be an error without it, and agents
/// reject the whole answer for an error in a probe.
fn probe(table: &str) -> String {
    format!(
        "SELECT 1 FROM osquery_registry WHERE active = true AND registry = 'table' \
         AND name = '{}'",
        table.replace('\'', "''")
    )
}
