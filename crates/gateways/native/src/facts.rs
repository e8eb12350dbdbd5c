//! What an agent says of its machine, on its way to the directory.

use std::net::IpAddr;
use std::time::Duration;

use muster_codec_native::{Hello, HostFacts};
use muster_endpoints::{Agent, AgentReport};

use crate::NativeState;

/// The directory's form of it.
pub(crate) fn report(host: &HostFacts, peer: IpAddr) -> AgentReport {
    AgentReport {
        hostname: host.hostname.clone(),
        platform: host.platform.clone(),
        os_name: host.os_name.clone(),
        os_version: host.os_version.clone(),
        arch: host.arch.clone(),
        version: host.version.clone(),
        capabilities: host.capabilities.join(" "),
        address: peer.to_canonical().to_string(),
    }
}

/// Notes what changed since the agent was last here. It is news for people, so a catalog that cannot
/// take it now does not hold up the link.
pub(crate) async fn note(state: &NativeState, agent: &Agent, hello: &Hello, peer: IpAddr) {
    let report = report(&hello.host, peer);
    let noted = muster_endpoints::report_agent(&state.catalog, agent, &report);
    match tokio::time::timeout(NOTE_TIME, noted).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, agent = %agent.no, "news of an agent not noted"),
        Err(_) => tracing::debug!(agent = %agent.no, "news of an agent not noted in time"),
    }
}

const NOTE_TIME: Duration = Duration::from_secs(5);
