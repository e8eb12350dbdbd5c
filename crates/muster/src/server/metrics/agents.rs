//! Agents: who is connected, by which protocol, and what was not taken.

use std::fmt::Error;

use muster_gateway::Refusal;
use muster_types::AgentKind;

use super::Sources;
use super::out::{BYTES, Labels, Out, PLAIN};

/// Numbers that rise and fall; all others only rise.
const GAUGES: [&str; 2] = ["sessions", "connections_open"];
/// Protocols that agents speak.
const PROTOCOLS: [AgentKind; 2] = [AgentKind::Native, AgentKind::Osquery];

pub(super) fn encode(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    for (name, help, value) in sources.gateway.read() {
        let help = help.trim();
        match name {
            "bytes_in" => out.counter("gateway_received", help, BYTES, value)?,
            "bytes_out" => out.counter("gateway_sent", help, BYTES, value)?,
            name if GAUGES.contains(&name) => {
                out.gauge(&format!("gateway_{name}"), help, PLAIN, value)?;
            }
            name => out.counter(&format!("gateway_{name}"), help, PLAIN, value)?,
        }
    }
    let reasons: Vec<_> = Refusal::ALL
        .map(|reason| ([("reason", reason.as_str())], sources.gateway.refusals(reason)))
        .into();
    let samples = reasons.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    out.counters("gateway_refused", "What was not taken, by reason", PLAIN, samples)?;
    protocols(sources, out)?;
    let snapshot = sources.directory.snapshot();
    out.gauge("agents", "Enrolled agents", PLAIN, snapshot.agent_count() as u64)
}

fn protocols(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    let of = |read: fn(&muster_gateway::ProtocolMetrics) -> u64| {
        PROTOCOLS.map(|kind| ([("protocol", kind.as_str())], read(sources.gateway.of(kind))))
    };
    let connections = of(|metrics| metrics.connections.get());
    let samples = connections.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    let help = "Connections that agents opened, by protocol";
    out.counters("gateway_protocol_connections", help, PLAIN, samples)?;
    let requests = [
        ([("protocol", AgentKind::Native.as_str())], sources.gateway.frames_in.get()),
        ([("protocol", AgentKind::Osquery.as_str())], sources.gateway.requests.get()),
    ];
    let samples = requests.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    let help = "Messages or requests of agents, by protocol";
    out.counters("gateway_protocol_requests", help, PLAIN, samples)?;
    let mut refused = Vec::new();
    for kind in PROTOCOLS {
        for reason in Refusal::ALL {
            let value = sources.gateway.of(kind).refusals(reason);
            refused.push(([("protocol", kind.as_str()), ("reason", reason.as_str())], value));
        }
    }
    let samples = refused.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    let help = "What was not taken once the protocol was known, by protocol and reason";
    out.counters("gateway_protocol_refused", help, PLAIN, samples)
}
