//! JSON rows straight into column buffers, by serde seeds: no value is built on the way.
//!
//! Scalars go into their column as they are read. Where a text column meets a nested value or a
//! fraction, whose spelling counts, it is marked `raw` and the body is read once more; from then on
//! that column reads the JSON text of its values at once.

use std::fmt;

use muster_types::RowFormat;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::builder::BadRows;
use crate::cell::{self, Put, Scalar};
use crate::column::Column;
use crate::limits;

/// Where rows go.
pub(crate) trait Sink {
    /// A row begins; refused when there are too many.
    fn begin(&mut self) -> Result<(), BadRows>;
    /// The column of a key; `None` for `_extra`.
    fn slot(&mut self, key: &str) -> Option<usize>;
    /// A column, at the row that has begun.
    fn column(&mut self, slot: usize) -> &mut Column;
    /// What became of the last value of a column.
    fn put(&mut self, slot: usize, put: Put);
    /// A value without a column.
    fn extra(&mut self, key: &str, json: &str);
    /// A refusal that must reach the caller.
    fn refuse(&mut self, why: BadRows);
    /// The row is complete.
    fn end(&mut self);
}

/// Reads all rows of a body into `sink`.
pub(crate) fn rows(format: RowFormat, body: &str, sink: &mut impl Sink) -> Result<(), BadRows> {
    match format {
        RowFormat::Array => {
            let mut from = serde_json::Deserializer::from_str(body);
            from.deserialize_seq(ArraySeed(sink)).and_then(|()| from.end()).map_err(BadRows::from)
        }
        RowFormat::Lines => {
            for line in body.lines().filter(|line| !line.trim_ascii().is_empty()) {
                let mut from = serde_json::Deserializer::from_str(line);
                RowSeed(sink)
                    .deserialize(&mut from)
                    .and_then(|()| from.end())
                    .map_err(BadRows::from)?;
            }
            Ok(())
        }
    }
}

/// Hands the JSON text of the rows with these numbers (rising) to `to`.
pub(crate) fn texts(
    format: RowFormat,
    body: &str,
    wanted: &[usize],
    mut to: impl FnMut(usize, &str),
) {
    match format {
        RowFormat::Array => {
            let mut from = serde_json::Deserializer::from_str(body);
            // The body was read before; nothing can be wrong with it now.
            let _ = from.deserialize_seq(TextsVisitor { wanted, to: &mut to });
        }
        RowFormat::Lines => {
            let lines = body.lines().filter(|line| !line.trim_ascii().is_empty());
            let mut wanted = wanted.iter().copied().peekable();
            for (n, line) in lines.enumerate() {
                if wanted.next_if_eq(&n).is_some() {
                    to(n, line);
                }
            }
        }
    }
}

struct TextsVisitor<'w, F> {
    wanted: &'w [usize],
    to: F,
}

impl<'de, F: FnMut(usize, &str)> Visitor<'de> for TextsVisitor<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut at = 0;
        for &row in self.wanted {
            while at < row {
                seq.next_element::<IgnoredAny>()?;
                at += 1;
            }
            if let Some(text) = seq.next_element::<&'de RawValue>()? {
                (self.to)(row, text.get());
            }
            at += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct ArraySeed<'s, S>(&'s mut S);

impl<'de, S: Sink> Visitor<'de> for ArraySeed<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(RowSeed(self.0))?.is_some() {}
        Ok(())
    }
}

struct RowSeed<'s, S>(&'s mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for RowSeed<'_, S> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for RowSeed<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row as an object")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let sink = self.0;
        if let Err(why) = sink.begin() {
            sink.refuse(why);
            return Err(A::Error::custom("refused"));
        }
        while let Some(slot) = map.next_key_seed(KeySeed(sink))? {
            match slot {
                Slot::Column(slot) => {
                    let column = sink.column(slot);
                    let put = if column.raw {
                        let json = map.next_value::<&'de RawValue>()?.get();
                        if too_deep(json) {
                            sink.refuse(BadRows::TooDeep);
                            return Err(A::Error::custom("refused"));
                        }
                        cell::put_raw(column, json)
                    } else {
                        map.next_value_seed(CellSeed(column))?
                    };
                    if put != Put::Stored {
                        sink.put(slot, put);
                    }
                }
                Slot::Extra(key) => {
                    let json = map.next_value::<&'de RawValue>()?.get();
                    if too_deep(json) {
                        sink.refuse(BadRows::TooDeep);
                        return Err(A::Error::custom("refused"));
                    }
                    sink.extra(&key, json);
                }
            }
        }
        sink.end();
        Ok(())
    }
}

enum Slot {
    Column(usize),
    Extra(String),
}

struct KeySeed<'s, S>(&'s mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for KeySeed<'_, S> {
    type Value = Slot;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Slot, D::Error> {
        from.deserialize_str(self)
    }
}

impl<S: Sink> Visitor<'_> for KeySeed<'_, S> {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column name")
    }

    #[inline]
    fn visit_str<E>(self, key: &str) -> Result<Slot, E> {
        Ok(self.0.slot(key).map_or_else(|| Slot::Extra(key.to_owned()), Slot::Column))
    }
}

struct CellSeed<'c>(&'c mut Column);

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = Put;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Put, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = Put;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    #[inline]
    fn visit_str<E>(self, text: &str) -> Result<Put, E> {
        Ok(cell::put(self.0, Scalar::Text(text)))
    }

    #[inline]
    fn visit_i64<E>(self, n: i64) -> Result<Put, E> {
        Ok(cell::put(self.0, Scalar::Int(n)))
    }

    #[inline]
    fn visit_u64<E>(self, n: u64) -> Result<Put, E> {
        let value = i64::try_from(n).map_or(Scalar::UInt(n), Scalar::Int);
        Ok(cell::put(self.0, value))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Put, E> {
        Ok(cell::put(self.0, Scalar::Float(n)))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Put, E> {
        Ok(cell::put(self.0, Scalar::Bool(flag)))
    }

    fn visit_unit<E>(self) -> Result<Put, E> {
        Ok(cell::put(self.0, Scalar::Null))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Put, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(cell::put(self.0, NESTED))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Put, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(cell::put(self.0, NESTED))
    }
}

/// Stands for a nested value: fits no typed column, and a text column asks for its text.
const NESTED: Scalar<'static> = Scalar::Float(f64::NAN);

/// Whether a valid JSON value is nested too deeply. Scalars are told at a glance.
fn too_deep(json: &str) -> bool {
    if !json.starts_with(['{', '[']) {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    json.bytes().any(|b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
        depth > limits::DEPTH
    })
}
