//! Answers to distributed queries.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::scan::{entries, member};
use super::{Error, share, utf8};
use crate::body::{Body, lossy};
use crate::lenient::{Number, Text};

/// Answers of one request that are taken.
pub const QUERIES_MAX: usize = 4096;
/// Longest message that is kept, in bytes.
const MESSAGE_BYTES: usize = 16 << 10;

/// What one query came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryAnswer {
    /// Its name; see [`crate::QueryId`].
    pub id: String,
    /// A JSON array of objects, not read; empty when there are no rows.
    pub rows: Bytes,
    /// Zero: it went well. Else a code of SQLite or of the agent.
    pub status: i64,
    /// What the agent says about it.
    pub message: String,
    /// How long it took, in milliseconds.
    pub wall_time_ms: u64,
    /// What it used, where the agent says so (from 5.8 on).
    pub used: Option<QueryUsed>,
    /// Its rows, or what became of it, were over the cap and are dropped.
    pub is_cut: bool,
}

/// What one query used, by the agent's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryUsed {
    /// Processor time in user code, in milliseconds.
    pub user_time_ms: u64,
    /// Processor time in the kernel, in milliseconds.
    pub system_time_ms: u64,
    /// By how much the resident memory of the process grew, in bytes.
    pub memory_bytes: u64,
}

/// Answers to distributed queries, in the order of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteRequest {
    /// Empty when it stands in the header only, or was cut off.
    pub node_key: String,
    /// The answers.
    pub answers: Vec<QueryAnswer>,
    /// What was over a cap, for people; the answers it hit say so too.
    pub dropped: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    queries: Pairs<'a, &'a RawValue>,
    #[serde(borrow)]
    statuses: Pairs<'a, Number>,
    #[serde(borrow)]
    messages: Pairs<'a, Text<'a>>,
    #[serde(borrow)]
    stats: Pairs<'a, Stats>,
    #[serde(borrow)]
    node_key: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    wall_time_ms: Number,
    user_time: Option<Number>,
    system_time: Number,
    memory: Number,
}

impl Stats {
    /// An entry may be `{}`.
    fn used(&self) -> Option<QueryUsed> {
        Some(QueryUsed {
            user_time_ms: self.user_time?.unsigned(),
            system_time_ms: self.system_time.unsigned(),
            memory_bytes: self.memory.unsigned(),
        })
    }
}

/// Members of an object, at most [`QUERIES_MAX`]; what is no object has none.
struct Pairs<'a, T>(Vec<(Cow<'a, str>, T)>);

impl<T> Default for Pairs<'_, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Pairs<'a, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Of<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Of<T> {
            type Value = Vec<(Cow<'de, str>, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    let value = map.next_value()?;
                    if pairs.len() < QUERIES_MAX {
                        pairs.push((key, value));
                    }
                }
                Ok(pairs)
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }
        }
        from.deserialize_any(Of(PhantomData)).map(Self)
    }
}

impl WriteRequest {
    /// Reads a body. Of one that was cut, the answers that are whole are taken and the others
    /// marked; what became of the queries stands at its end.
    ///
    /// # Errors
    /// When it is not the JSON of such a request.
    pub fn parse(body: &Body) -> Result<Self, Error> {
        let text = lossy(&body.head);
        if body.is_cut() {
            return Self::parse_cut(body, &text);
        }
        let mut members: Members<'_> = serde_json::from_str(utf8(&text)?)?;
        let node_key = std::mem::take(&mut members.node_key).0.into_owned();
        let queries = std::mem::take(&mut members.queries.0);
        let rows = |value: &RawValue| rows(&text, value);
        let queries = queries.into_iter().map(|(id, value)| (id, Some(rows(value)))).collect();
        Ok(Self { node_key, answers: join(queries, &members, true), dropped: None })
    }

    fn parse_cut(body: &Body, text: &Bytes) -> Result<Self, Error> {
        let head = utf8(text)?;
        let from = member(head, "queries", '{').ok_or(Error::Member("queries"))?;
        let found = entries(head, from, QUERIES_MAX);
        let mut queries = Vec::with_capacity(found.whole.len() + 1);
        for entry in found.whole {
            let (id, value) = pair(&head[entry]).ok_or(Error::Member("queries"))?;
            queries.push((Cow::Owned(id), value.map(|value| rows(text, value))));
        }
        if let Some((id, _)) = found.broken.and_then(|at| pair(&head[at..])) {
            queries.push((Cow::Owned(id), None));
        }
        let ends = body.ends(&["statuses", "messages", "stats", "node_key"]);
        let end = ends.iter().find_map(|end| serde_json::from_str::<Members<'_>>(end).ok());
        let end = end.unwrap_or_default();
        let answers = join(queries, &end, false);
        let cut = answers.iter().filter(|answer| answer.is_cut).count();
        let dropped = format!(
            "answers of {} bytes were over the limit: those to {cut} queries were dropped",
            body.byte_count
        );
        let node_key = end.node_key.0.into_owned();
        Ok(Self { node_key, answers, dropped: Some(dropped) })
    }
}

/// Rows as they are kept: nothing for none.
fn rows(text: &Bytes, value: &RawValue) -> Bytes {
    let json = value.get();
    let inner = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    // Agents before 3.0 say `""` for no rows.
    match inner.map(str::trim) {
        Some("") | None => Bytes::new(),
        Some(_) => share(text, json),
    }
}

/// One member of an object: its name, and its value when that is whole.
fn pair(entry: &str) -> Option<(String, Option<&RawValue>)> {
    let mut names = serde_json::Deserializer::from_str(entry).into_iter::<String>();
    let id = names.next()?.ok()?;
    let value = entry[names.byte_offset()..].trim_start().strip_prefix(':');
    Some((id, value.and_then(|value| serde_json::from_str(value).ok())))
}

/// Puts together what stands apart. A query without rows of its own has a status, at least.
fn join(
    queries: Vec<(Cow<'_, str>, Option<Bytes>)>,
    end: &Members<'_>,
    whole: bool,
) -> Vec<QueryAnswer> {
    let statuses: HashMap<&str, i64> =
        end.statuses.0.iter().map(|(id, status)| (&**id, status.0)).collect();
    let messages: HashMap<&str, &str> =
        end.messages.0.iter().map(|(id, message)| (&**id, &*message.0)).collect();
    let stats: HashMap<&str, &Stats> =
        end.stats.0.iter().map(|(id, stats)| (&**id, stats)).collect();
    let mut seen = HashSet::new();
    let without_rows = end.statuses.0.iter().map(|(id, _)| (id.clone(), whole.then(Bytes::new)));
    let mut answers = Vec::with_capacity(queries.len());
    for (id, rows) in queries.into_iter().chain(without_rows) {
        if answers.len() >= QUERIES_MAX || !seen.insert(id.clone()) {
            continue;
        }
        let status = statuses.get(&*id).copied();
        let message = messages.get(&*id).copied().unwrap_or_default();
        // Without its status, no rows may also mean that it failed.
        let unknown = !whole && status.is_none() && rows.as_ref().is_some_and(Bytes::is_empty);
        answers.push(QueryAnswer {
            status: status.unwrap_or(0),
            message: message[..message.floor_char_boundary(MESSAGE_BYTES)].to_owned(),
            wall_time_ms: stats.get(&*id).map_or(0, |stats| stats.wall_time_ms.unsigned()),
            used: stats.get(&*id).and_then(|stats| stats.used()),
            is_cut: rows.is_none() || unknown,
            rows: rows.unwrap_or_default(),
            id: id.into_owned(),
        });
    }
    answers
}
