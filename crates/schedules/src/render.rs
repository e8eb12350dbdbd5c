//! From schedules and fragments to the document an agent is given (osquery's configuration).

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::state::{Entry, Org};
use crate::{BuiltIn, Fragment, Mode, Platforms, Schedule, merge};

/// Agents up to 5.23.1 refuse a longer document and go on with the one they have.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// A document, ready to be sent. Equal documents have equal bytes.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The document, for agents that gave no `etag`.
    pub bytes: Bytes,
    /// The document with its `etag` as first member, for agents that gave one.
    pub with_etag: Bytes,
    /// Names these bytes; 32 hexadecimal digits, so never the reserved word `ok`.
    pub etag: Box<str>,
}

impl Rendered {
    fn new(document: &Value) -> Self {
        let bytes = Bytes::from(document.to_string());
        let etag = hex::encode(&Sha256::digest(&bytes)[..16]);
        // The document always has members, so this is `{"etag":"…",` and the rest.
        let with_etag = [format!("{{\"etag\":\"{etag}\",").as_bytes(), &bytes[1..]].concat();
        Self { bytes, with_etag: with_etag.into(), etag: etag.into() }
    }

    /// How much memory it takes, about.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.with_etag.len() + 256
    }

    /// Whether agents refuse it for its length.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.with_etag.len() > DOCUMENT_BYTES_MAX
    }
}

/// Whom a document is for.
pub(crate) struct For<'a> {
    /// `linux`, `darwin`, `windows`, or something that is not known.
    pub(crate) platform: &'a str,
    /// Whether the endpoint has the label of this number among those that matter here.
    pub(crate) has: &'a dyn Fn(usize) -> bool,
}

impl For<'_> {
    fn is(&self, platforms: Platforms) -> bool {
        platforms.includes(self.platform)
    }
}

/// Renders the document. It is a function of its arguments and of nothing else.
pub(crate) fn render(org: &Org, built_in: &[BuiltIn], to: &For<'_>) -> Rendered {
    let mut document = sections(org, to);
    let options = document.entry("options").or_insert_with(|| json!({}));
    // Names of packed queries are read by it.
    options["pack_delimiter"] = "/".into();
    let (schedule, packs) = queries(org, built_in, to);
    if !schedule.is_empty() {
        document.insert("schedule".to_owned(), schedule.into());
    }
    if !packs.is_empty() {
        document.insert("packs".to_owned(), packs.into());
    }
    let mut document = Value::Object(document);
    merge::canonical(&mut document);
    Rendered::new(&document)
}

fn sections(org: &Org, to: &For<'_>) -> Map<String, Value> {
    let labelled = |label: Option<usize>| label.is_none_or(|label| (to.has)(label));
    let mut fragments: Vec<&Fragment> = org
        .fragments
        .iter()
        .filter(|(fragment, label)| to.is(fragment.platforms) && labelled(*label))
        .map(|(fragment, _)| fragment)
        .collect();
    merge::sort(&mut fragments);
    let mut document = Map::new();
    fragments.iter().for_each(|fragment| merge::apply(&mut document, &fragment.sections));
    // A fragment may have taken a whole section away, or left nothing in it.
    document.retain(|_, section| section.as_object().is_none_or(|object| !object.is_empty()));
    document
}

fn queries(
    org: &Org,
    built_in: &[BuiltIn],
    to: &For<'_>,
) -> (Map<String, Value>, Map<String, Value>) {
    let (mut schedule, mut packs) = (Map::new(), Map::new());
    for one in built_in.iter().filter(|one| to.is(one.platforms)) {
        let entry = json!({"query": one.sql, "interval": one.interval_s, "snapshot": true});
        schedule.insert(one.name.clone(), entry);
    }
    for entry in org.schedules.iter().filter(|entry| applies(entry, to)) {
        let one = &entry.schedule;
        if one.pack.is_empty() {
            schedule.insert(one.name.clone(), query(one, &entry.sql));
            continue;
        }
        let pack = packs.entry(one.pack.as_str()).or_insert_with(|| pack(one));
        pack["queries"][one.short_name()] = query(one, &entry.sql);
    }
    (schedule, packs)
}

fn applies(entry: &Entry, to: &For<'_>) -> bool {
    let labels_in = &entry.labels_in;
    to.is(entry.schedule.platforms)
        && (entry.schedule.labels_in.is_empty() || labels_in.iter().any(|label| (to.has)(*label)))
        && !entry.labels_out.iter().any(|label| (to.has)(*label))
}

fn pack(one: &Schedule) -> Value {
    let mut pack = json!({"queries": {}});
    if !one.discovery.is_empty() {
        pack["discovery"] = json!(one.discovery);
    }
    pack
}

/// One query; what is osquery's default is left out.
fn query(one: &Schedule, sql: &str) -> Value {
    let mut query = json!({"query": sql, "interval": one.interval_s});
    match one.mode {
        Mode::Snapshot => query["snapshot"] = true.into(),
        Mode::AddedOnly => query["removed"] = false.into(),
        Mode::Differential => {}
    }
    if !one.platforms.is_all() {
        query["platform"] = one.platforms.to_string().into();
    }
    if !one.min_version.is_empty() {
        query["version"] = one.min_version.as_str().into();
    }
    if one.shard_percent < 100 {
        query["shard"] = one.shard_percent.into();
    }
    if !one.denylist {
        query["denylist"] = false.into();
    }
    if one.priority != 0 {
        query["startup_priority"] = one.priority.into();
    }
    query
}
