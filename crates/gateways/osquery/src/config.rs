//! Config: the document an agent runs by, and YARA rules.

use std::sync::Arc;
use std::time::Duration;

use muster_codec_osquery::{KeyOnly, answer};
use muster_endpoints::Agent;
use muster_gateway::http::{Answer, Called, Request};
use muster_schedules::Rendered;

use crate::Osquery;
use crate::auth::{Caller, header_key};
use crate::capabilities;
use crate::packed::{Name, Packed, packed};
use crate::refusal::{Refusal, with};

/// The etag an agent sent, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Etag {
    /// It knows no etags.
    Unheard,
    /// It has another document, or none.
    Other,
    /// It has this one.
    Same,
}

impl Osquery {
    pub(crate) fn config(self: &Arc<Self>, request: &Request<'_>) -> Called {
        let now = self.clock.now();
        let header = header_key(request.head.authorization);
        let parsed = KeyOnly::parse(&request.body);
        let key = parsed.as_ref().map_or("", |body| &*body.node_key);
        let caller = match self.authenticate(header, key, request.source.has_certificate, now) {
            Ok(caller) => caller,
            Err(refusal) => return Called::Ready(refusal.answer()),
        };
        let etag = parsed.ok().and_then(|body| body.etag);
        let Some(agent) = caller.node.known.clone() else {
            let (state, etag) = (Arc::clone(self), etag.map(|etag| etag.into_owned()));
            return self.in_time(async move {
                let agent = state.look_up(&caller).await?;
                Ok(document(&state.configs.config_for(&agent), etag.as_deref()).0)
            });
        };
        let (answer, name) = document(&self.configs.config_for(&agent), etag.as_deref());
        if capabilities::is_distributed_off(&agent) && self.hunts.has_work(agent.no) {
            // It never polls for work; taking it ends its tasks, with what to do about it.
            let state = Arc::clone(self);
            return self.in_time(async move {
                state.end_unasked(caller.agent(), Some(&agent)).await;
                Ok(answer)
            });
        }
        match name.filter(|_| request.head.accepts_gzip && Packed::is_worth_it(&answer.body)) {
            Some(name) => self.packed(name, answer),
            None => Called::Ready(answer),
        }
    }

    /// The same answer, packed.
    fn packed(self: &Arc<Self>, name: Name, answer: Answer) -> Called {
        if let Some(body) = self.packed.get(&name) {
            return Called::Ready(Answer { body, is_gzip: true, ..answer });
        }
        let state = Arc::clone(self);
        self.in_time(async move {
            let plain = answer.body.clone();
            let packed = tokio::task::spawn_blocking(move || state.packed.pack(name, &plain));
            Ok(match packed.await {
                Ok(Ok(body)) => Answer { body, is_gzip: true, ..answer },
                // Packed is a favour.
                _ => answer,
            })
        })
    }

    /// An agent that enrolled a moment ago, perhaps elsewhere.
    async fn look_up(&self, caller: &Caller) -> Result<Arc<Agent>, Refusal> {
        let unknown = || Refusal::later("the agent is not known here yet", Duration::from_secs(1));
        let snapshot = self.directory.refresh().await.map_err(|error| {
            tracing::warn!(%error, "an agent could not be looked up");
            unknown()
        })?;
        snapshot.agent(caller.node.agent).cloned().ok_or_else(unknown)
    }

    /// A file of YARA rules; the one place where agents look at the status.
    pub(crate) fn yara(self: &Arc<Self>, request: &Request<'_>, name: &str) -> Called {
        let caller = match self.key_only(request, self.clock.now()) {
            Ok(caller) => caller,
            Err(refusal) => return Called::Ready(refusal.answer()),
        };
        let Some(rules) = self.configs.yara_rules(caller.node.org, name) else {
            let none = answer::error("there are no YARA rules of this name");
            return Called::Ready(Answer::new(404, none));
        };
        let answer = Answer { content_type: "text/plain", ..with(rules) };
        match request.head.accepts_gzip {
            true => self.in_time(async move { Ok(packed(answer).await) }),
            false => Called::Ready(answer),
        }
    }
}

/// The answer, and the name of the document in it if there is one.
fn document(rendered: &Rendered, etag: Option<&str>) -> (Answer, Option<Name>) {
    let known = match etag {
        None => Etag::Unheard,
        Some(etag) if !etag.is_empty() && *etag == *rendered.etag => Etag::Same,
        Some(_) => Etag::Other,
    };
    let name = |with_etag| Some((rendered.etag.clone(), with_etag));
    match known {
        Etag::Unheard => (with(rendered.bytes.clone()), name(false)),
        Etag::Other => (with(rendered.with_etag.clone()), name(true)),
        Etag::Same => (with(answer::CONFIG_UNCHANGED), None),
    }
}
