//! One row as it is told: the envelope, version 1.
//!
//! Names are those of the Elastic Common Schema where it has one. A reader goes by
//! `muster.version`; members are added without raising it, so unknown ones are to be passed over.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Array;
use bytes::Bytes;
use muster_endpoints::{Agent, AgentState, Snapshot};
use muster_results::RowClass;
use muster_types::{AgentNo, OrgId, Timestamp};

use crate::cells::{Cells, json, put, time};
use crate::window::RowAt;

/// The version of the envelope.
pub const ENVELOPE_VERSION: u32 = 1;

/// The version of the Elastic Common Schema whose names are used.
const ECS_VERSION: &str = "8.17.0";

/// A row, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The same at every attempt, of no other row.
    pub id: String,
    /// The envelope: one line of JSON.
    pub body: Bytes,
    /// When the server received it.
    pub received: Timestamp,
    /// Its table.
    pub table: Arc<str>,
    /// The endpoint's name; empty when it is unknown.
    pub host: Arc<str>,
}

/// Whose rows are told.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The installation, as a UUID.
    pub cluster: Arc<str>,
    pub org: OrgId,
}

/// What is the same for all rows of one agent, as members of the envelope.
pub(crate) struct Hosts<'a> {
    snapshot: &'a Snapshot,
    labels: &'a [String],
    known: HashMap<i64, Host>,
}

#[derive(Clone)]
enum Host {
    /// Rows of it are none of the sink's.
    Hidden,
    Told {
        name: Arc<str>,
        members: Arc<str>,
    },
}

impl<'a> Hosts<'a> {
    /// The endpoints of a snapshot, cut to those that carry one of `labels`, if there are any.
    pub(crate) fn new(snapshot: &'a Snapshot, labels: &'a [String]) -> Self {
        Self { snapshot, labels, known: HashMap::new() }
    }

    fn of(&mut self, agent: i64) -> Host {
        if let Some(known) = self.known.get(&agent) {
            return known.clone();
        }
        let host = self.look_up(agent);
        self.known.insert(agent, host.clone());
        host
    }

    fn look_up(&self, no: i64) -> Host {
        let agent = u32::try_from(no).ok().and_then(|no| self.snapshot.agent(AgentNo(no)));
        // The directory is newer than the rows, so an unknown agent is one of a damaged row.
        let Some(agent) = agent.filter(|agent| agent.state != AgentState::Retired) else {
            return Host::Hidden;
        };
        let Some(endpoint) = self.snapshot.endpoint(agent.endpoint) else { return Host::Hidden };
        let labels: Vec<&str> =
            self.snapshot.labels_of(endpoint).map(|label| &*label.name).collect();
        if !self.labels.is_empty() && !self.labels.iter().any(|l| labels.contains(&l.as_str())) {
            return Host::Hidden;
        }
        let name = if endpoint.name.is_empty() { &agent.hostname } else { &endpoint.name };
        let members = members(agent, endpoint.no.0, name, &labels);
        Host::Told { name: (&**name).into(), members: members.into() }
    }
}

fn members(agent: &Agent, endpoint: u32, name: &str, labels: &[&str]) -> String {
    let facts = &agent.facts;
    let mut host = serde_json::json!({
        "id": endpoint.to_string(),
        "name": name,
        "hostname": agent.hostname,
        "architecture": facts.arch,
        "os": {"platform": facts.platform, "name": facts.os_name, "version": facts.os_version},
    });
    let mut told = serde_json::json!({
        "id": agent.no.to_string(),
        "type": agent.kind.as_str(),
        "version": facts.version,
    });
    drop_empty(&mut host);
    drop_empty(&mut told);
    let tags = serde_json::Value::from(labels.to_vec());
    let mut out = format!(r#""host":{host},"agent":{told}"#);
    if !labels.is_empty() {
        out.push_str(&format!(r#","tags":{tags}"#));
    }
    out
}

/// Takes out what is not known.
fn drop_empty(value: &mut serde_json::Value) {
    let Some(object) = value.as_object_mut() else { return };
    for (_, member) in object.iter_mut() {
        drop_empty(member);
    }
    let known = |v: &serde_json::Value| {
        v.as_str() != Some("") && v.as_object().is_none_or(|object| !object.is_empty())
    };
    object.retain(|_, member| known(member));
}

impl Event {
    /// The event of a row; `None` when it is none of the sink's.
    pub(crate) fn of(
        origin: &Origin,
        row: &RowAt<'_>,
        cells: &Cells,
        hosts: &mut Hosts<'_>,
        deleted_hunts: &std::collections::BTreeSet<i64>,
    ) -> Option<Self> {
        let at = row.index;
        let system = &cells.system;
        let hunt = system.hunt.as_ref().filter(|c| c.is_valid(at)).map(|c| c.value(at));
        if hunt.is_some_and(|hunt| deleted_hunts.contains(&hunt)) {
            return None;
        }
        let agent = system.agent.as_ref().map_or(0, |column| column.value(at));
        let Host::Told { name, members } = hosts.of(agent) else { return None };
        let received = system.received.as_ref().map_or(0, |column| column.value(at));
        let class = RowClass::from_code(row.columns.class).map_or("", RowClass::as_str);
        let table = &row.columns.table;
        let id = id(origin, row, table, class);
        let text = |column: &Option<arrow::array::StringArray>| {
            let column = column.as_ref().filter(|column| column.is_valid(at))?;
            Some(column.value(at).to_owned())
        };

        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(br#"{"@timestamp":"#);
        put(&mut out, &time(received));
        out.extend_from_slice(br#","ecs":{"version":"#);
        put(&mut out, ECS_VERSION);
        out.extend_from_slice(br#"},"event":{"id":"#);
        put(&mut out, &id);
        out.extend_from_slice(br#","kind":"event","module":"muster","dataset":"#);
        put(&mut out, &format!("muster.{table}"));
        if let Some(kind) = text(&system.kind) {
            out.extend_from_slice(br#","provider":"#);
            put(&mut out, &kind);
        }
        if let Some(told) = system.endpoint_time.as_ref().filter(|column| column.is_valid(at)) {
            out.extend_from_slice(br#","created":"#);
            put(&mut out, &time(told.value(at)));
        }
        out.extend_from_slice(b"},");
        out.extend_from_slice(members.as_bytes());
        out.extend_from_slice(br#","muster":{"version":"#);
        put(&mut out, &ENVELOPE_VERSION);
        let mut member = |name: &str, value: &dyn Fn(&mut Vec<u8>)| {
            out.push(b',');
            put(&mut out, name);
            out.push(b':');
            value(&mut out);
        };
        member("cluster", &|out| put(out, &*origin.cluster));
        member("org", &|out| put(out, &origin.org.0));
        member("table", &|out| put(out, &**table));
        member("class", &|out| put(out, class));
        member("shard", &|out| put(out, &row.shard));
        member("position", &|out| put(out, &row.pos));
        member("row_number", &|out| put(out, &row.row));
        if let Some(hunt) = hunt {
            member("hunt", &|out| put(out, &hunt));
            let attempt = system.attempt.as_ref().map_or(0, |column| column.value(at));
            member("attempt", &|out| put(out, &attempt));
        }
        if system.late.as_ref().is_some_and(|column| column.value(at)) {
            member("late", &|out| put(out, &true));
        }
        if let Some(source) = text(&system.source) {
            member("source", &|out| put(out, &source));
        }
        if let Some(action) = text(&system.action) {
            member("action", &|out| put(out, &action));
        }
        if let Some(raw) = text(&system.raw) {
            member("raw", &|out| json(out, &raw));
        }
        if let Some(extra) = text(&system.extra) {
            member("extra", &|out| json(out, &extra));
        }
        member("row", &|out| {
            out.push(b'{');
            cells.write(at, out);
            out.push(b'}');
        });
        out.extend_from_slice(b"}}");
        let (table, received) = (Arc::clone(table), Timestamp(received));
        Some(Self { id, body: out.into(), received, table, host: name })
    }

    /// An event that tells of nothing, to see whether a destination takes events at all.
    pub(crate) fn test(origin: &Origin, sink: &str, now: Timestamp) -> Self {
        let id = format!("{}-test-{}", short(origin), uuid::Uuid::new_v4().simple());
        let body = serde_json::json!({
            "@timestamp": time(now.0),
            "ecs": {"version": ECS_VERSION},
            "event": {
                "id": id, "kind": "event", "module": "muster", "dataset": "muster.test",
            },
            "message": format!("test of the sink {sink}; nothing happened"),
            "muster": {
                "version": ENVELOPE_VERSION,
                "cluster": &*origin.cluster,
                "org": origin.org.0,
                "table": "test",
                "row": {},
            },
        });
        let body = body.to_string().into();
        Self { id, body, received: now, table: "test".into(), host: "".into() }
    }
}

fn short(origin: &Origin) -> &str {
    origin.cluster.get(..8).unwrap_or(&origin.cluster)
}

/// Installation, organisation, table, class, shard, position and row.
fn id(origin: &Origin, row: &RowAt<'_>, table: &str, class: &str) -> String {
    let (org, shard, pos, row) = (origin.org, row.shard, row.pos, row.row);
    let class = class.get(..1).unwrap_or("x");
    format!("{}-{org}-{table}-{class}-{shard}-{pos}-{row}", short(origin))
}
