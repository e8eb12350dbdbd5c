//! Enrolment: a secret for a node key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_codec_osquery::{EnrolRequest, HostDetails, answer};
use muster_endpoints::{
    Agent, AgentReport, Enrol, EnrolError, EnrolNode, NodeEnrolled, grant_node,
};
use muster_gateway::Refusal as Counted;
use muster_gateway::http::Answer;
use muster_types::{AgentKind, OrgId};

use crate::refusal::{Refusal, with};
use crate::service::Post;
use crate::state::report_of;
use crate::{Identifier, Osquery};

/// UUIDs that stand in the firmware of many machines, and name none of them.
const NOBODYS: [&str; 4] = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
];

impl Osquery {
    pub(crate) async fn enrol(
        self: Arc<Self>,
        post: Post,
        environment: Option<String>,
    ) -> Result<Answer, Refusal> {
        let address = post.source.address;
        let enrolled = self.enrolled(&post, environment).await.inspect_err(|refusal| {
            self.metrics.refused_by(muster_types::AgentKind::Osquery, Counted::Enrolment);
            if let Some(left_out) = self.refusals.turn(Instant::now()) {
                let reason = reason(refusal);
                tracing::warn!(%address, reason, left_out, "osquery enrolment refused");
            }
        })?;
        Ok(with(answer::enrolled(&self.keys.issue(&enrolled.key))))
    }

    async fn enrolled(
        &self,
        post: &Post,
        environment: Option<String>,
    ) -> Result<NodeEnrolled, Refusal> {
        let (now, address) = (self.clock.now(), post.source.address);
        let many = |wait| Refusal::later("many machines enrol at this moment", wait);
        self.enrolments.knock(address, now).map_err(many)?;
        let request = EnrolRequest::parse(&post.body)?;
        let node = EnrolNode {
            enrol: Enrol {
                org: OrgId::DEFAULT,
                kind: AgentKind::Osquery,
                external_id: identity(self.options.identifier, &request)?,
                public_key: None,
                machine: machine(&request.host_details),
                report: report(&request, address),
                secret: Some(request.enroll_secret.clone()),
            },
            instance: request.host_details.instance_id().to_owned(),
            environment,
            has_certificate: post.source.has_certificate,
        };
        let granted = grant_node(&self.catalog, &node, now).await.map_err(refusal)?;
        self.enrolments.enter(now).map_err(many)?;
        let presence = self.presence.clone();
        let last_heard = Arc::new(move |agent| presence.last_seen(agent));
        let enrolled = self.enrolling.enrol_node(&node, granted, last_heard, now);
        let enrolled = enrolled.await.map_err(refusal)?;
        self.welcome(&enrolled, &node.enrol.report).await;
        Ok(enrolled)
    }

    /// What follows once an agent has its number.
    async fn welcome(&self, enrolled: &NodeEnrolled, report: &AgentReport) {
        let (agent, now) = (enrolled.enrolled.agent, self.clock.now());
        let (address, is_new) = (&report.address, enrolled.enrolled.is_new);
        self.metrics.enrolled.inc();
        self.presence.touch(agent, now);
        tracing::info!(%agent, address, new = is_new, "osquery agent enrolled");
        if let Some(of) = enrolled.clone_of {
            self.metrics.clones.inc();
            tracing::warn!(%agent, %of, address, "two live machines have the same identifier; the \
                 second is an agent of its own. Give osqueryd --host_identifier=instance where \
                 machines are cloned");
        }
        if is_new {
            // Its next request is for its configuration, which goes by what the directory knows.
            if let Err(error) = self.directory.announce().await {
                tracing::debug!(%error, "directory not refreshed after an enrolment");
            }
        } else if let Some(known) = self.directory.snapshot().agent(agent) {
            self.note(known, &renewed(known, report)).await;
        }
    }
}

/// What names the machine.
fn identity(by: Identifier, request: &EnrolRequest) -> Result<String, Refusal> {
    let details = &request.host_details;
    let wanted = match by {
        Identifier::Provided => &request.host_identifier,
        Identifier::Uuid => details.uuid(),
        Identifier::Instance => details.instance_id(),
        Identifier::Hostname => details.hostname(),
    };
    // Old agents tell no details; what they call themselves is better than nothing.
    let name =
        [wanted, &request.host_identifier].into_iter().map(str::trim).find(|n| !n.is_empty());
    let none = || Refusal::Malformed("the agent does not say who it is".to_owned());
    name.map(str::to_owned).ok_or_else(none)
}

/// The machine's identity, which other agents on it tell as well.
fn machine(details: &HostDetails) -> Option<String> {
    let uuid = details.uuid().trim().to_ascii_lowercase();
    (!uuid.is_empty() && !NOBODYS.contains(&&*uuid)).then_some(uuid)
}

fn report(request: &EnrolRequest, address: IpAddr) -> AgentReport {
    let details = &request.host_details;
    let hostname = match details.hostname() {
        "" => &request.host_identifier,
        name => name,
    };
    AgentReport {
        hostname: hostname.to_owned(),
        platform: request.platform().as_str().to_owned(),
        os_name: details.os_name().to_owned(),
        os_version: details.os_version().to_owned(),
        arch: details.arch().to_owned(),
        version: details.version().to_owned(),
        capabilities: "sql".to_owned(),
        address: address.to_canonical().to_string(),
    }
}

/// What a known agent says anew; what it leaves out, and what is known of its flags, stays.
fn renewed(known: &Agent, said: &AgentReport) -> AgentReport {
    let before = report_of(known);
    let or = |said: &str, before: String| if said.is_empty() { before } else { said.to_owned() };
    AgentReport {
        hostname: or(&said.hostname, before.hostname),
        platform: or(&said.platform, before.platform),
        os_name: or(&said.os_name, before.os_name),
        os_version: or(&said.os_version, before.os_version),
        arch: or(&said.arch, before.arch),
        version: or(&said.version, before.version),
        capabilities: before.capabilities,
        address: said.address.clone(),
    }
}

/// Why an enrolment was refused, for the log. What is wrong with a body that cannot be read may quote it, and the
/// secret with it.
fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Malformed(_) => "it cannot be read, or does not say whose it is".to_owned(),
        refusal => refusal.to_string(),
    }
}

fn refusal(error: EnrolError) -> Refusal {
    match error {
        EnrolError::Secret => Refusal::NotAllowed(
            "this enrol secret is unknown, expired, revoked, or of another environment".into(),
        ),
        EnrolError::Certificate => Refusal::Certificate,
        EnrolError::Blocked(_) => Refusal::Blocked,
        EnrolError::NoOriginal(_) => Refusal::NotAllowed("the agent is not known".into()),
        EnrolError::Invalid(_) => Refusal::Malformed(error.to_string()),
        EnrolError::Crowded => Refusal::later("many machines enrol", Duration::from_secs(10)),
        EnrolError::Catalog(error) => {
            tracing::error!(%error, "an enrolment could not be stored");
            Refusal::later("the server cannot store this now", Duration::from_secs(10))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_quotes_no_secret() {
        for body in [r#""mes_secret""#, r#"{"host_details": "mes_secret"}"#] {
            let error = EnrolRequest::parse(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("mes_secret"), "what the agent itself is told");
            assert!(!reason(&error.into()).contains("mes_secret"));
        }
        let told = reason(&refusal(EnrolError::Secret));
        assert!(told.contains("secret is unknown, expired, revoked"), "{told}");
    }
}
