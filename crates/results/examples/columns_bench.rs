//! Rows per second of CPU: a bare loop that parses `processes` rows straight into typed columns and
//! writes Parquet, beside [`SegmentBuilder`], in one run; and bytes per row after compaction.
//!
//! `cargo run --release -p muster-results --example columns_bench [bodies]`

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringBuilder};
use bytes::Bytes;
use muster_results::{
    Dropped, RowClass, RowFormat, RowMeta, SegmentBuilder, Source, TableSpec, merge_parts, sample,
};
use muster_types::{AgentKind, AgentNo, ColumnType, HuntNo, OrgId, Pos, Timestamp};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

const ROWS: usize = 200;
const FLUSH: usize = 500;

fn main() {
    let bodies = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let table = sample::table(RowClass::Collected);
    let mut processes = sample::Processes::new(7);
    let bodies: Vec<Vec<u8>> = (0..bodies).map(|_| processes.body(ROWS)).collect();
    let (rows, bytes) = (bodies.len() * ROWS, bodies.iter().map(Vec::len).sum::<usize>());
    println!("{rows} rows, {} bytes of JSON each", bytes / rows);
    for run in 0..4 {
        let (parse, write, size) = bare(&table, &bodies);
        let (our_parse, our_write, segments) = ours(&table, &bodies);
        let our_size: usize = segments.iter().map(Bytes::len).sum();
        let (all, our_all) = (parse + write, our_parse + our_write);
        println!(
            "run {run}: bare {:.0} rows/s (parse {:.2} + write {:.2} µs, {:.1} B/row) · \
             ours {:.0} rows/s (parse {:.2} + write {:.2} µs, {:.1} B/row) · ratio {:.2}",
            rows as f64 / all,
            parse * 1e6 / rows as f64,
            write * 1e6 / rows as f64,
            size as f64 / rows as f64,
            rows as f64 / our_all,
            our_parse * 1e6 / rows as f64,
            our_write * 1e6 / rows as f64,
            our_size as f64 / rows as f64,
            all / our_all,
        );
        if run == 3 {
            let start = cpu();
            let sources: Vec<_> = segments
                .iter()
                .map(|segment| {
                    let index = muster_results::read_container(segment).expect("a segment");
                    let part = &index[0];
                    let range = part.byte_offset as usize..;
                    Source { file: segment.slice(range).slice(..part.byte_count as usize) }
                })
                .collect();
            let (org, class) = (OrgId(1), RowClass::Collected);
            let merged = merge_parts(org, "t", class, 0, &sources, &Dropped::default());
            let file = merged.expect("parts").expect("rows").file;
            println!(
                "compacted: {:.1} B/row, {:.0} rows/s",
                file.len() as f64 / rows as f64,
                rows as f64 / (cpu() - start)
            );
        }
    }
}

/// Seconds this thread was on a CPU.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn ours(table: &Arc<TableSpec>, bodies: &[Vec<u8>]) -> (f64, f64, Vec<Bytes>) {
    let (mut parse, mut write) = (0.0, 0.0);
    let mut segments = Vec::new();
    for (flush, some) in bodies.chunks(FLUSH).enumerate() {
        let start = cpu();
        let mut builder = SegmentBuilder::new();
        for (n, body) in some.iter().enumerate() {
            let n = (flush * FLUSH + n) as u32;
            let agent = AgentNo(1 + n.wrapping_mul(7919) % 100_000);
            let meta = RowMeta {
                org: OrgId(1),
                agent,
                agent_kind: AgentKind::Osquery,
                hunt: HuntNo(12),
                attempt: 1,
                late: false,
                received_at: Timestamp(1_700_000_000_000_000 + i64::from(n) * 1000),
                endpoint_time: None,
                shard: agent.shard(),
                pos: Pos(u64::from(n)),
            };
            builder.append_json(table, &meta, RowFormat::Array, body).expect("rows");
        }
        parse += cpu() - start;
        let start = cpu();
        segments.push(builder.finish().expect("a segment").bytes);
        write += cpu() - start;
    }
    (parse, write, segments)
}

enum Bare {
    Int(Vec<i64>),
    Text(StringBuilder),
}

fn bare(table: &TableSpec, bodies: &[Vec<u8>]) -> (f64, f64, usize) {
    let (mut parse, mut write, mut size) = (0.0, 0.0, 0);
    for some in bodies.chunks(FLUSH) {
        let start = cpu();
        let mut rows = BareRows {
            names: table.columns.iter().map(|column| column.name.as_str()).collect(),
            columns: table
                .columns
                .iter()
                .map(|column| match column.kind {
                    ColumnType::Int => Bare::Int(Vec::new()),
                    _ => Bare::Text(StringBuilder::new()),
                })
                .collect(),
            order: Vec::new(),
        };
        for body in some {
            let mut from = serde_json::Deserializer::from_slice(body);
            from.deserialize_seq(&mut rows).expect("rows");
        }
        parse += cpu() - start;
        let start = cpu();
        let arrays = rows.columns.into_iter().zip(rows.names).map(|(column, name)| {
            let array: ArrayRef = match column {
                Bare::Int(values) => Arc::new(Int64Array::from(values)),
                Bare::Text(mut values) => Arc::new(values.finish()),
            };
            (name, array)
        });
        let batch = RecordBatch::try_from_iter(arrays).expect("columns");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a level")))
            .set_max_row_group_row_count(Some(100_000))
            .build();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("rows");
        size += black_box(writer.into_inner().expect("a file")).len();
        write += cpu() - start;
    }
    (parse, write, size)
}

struct BareRows<'n> {
    names: Vec<&'n str>,
    columns: Vec<Bare>,
    /// Column of each place of a row, found once.
    order: Vec<usize>,
}

impl<'de> Visitor<'de> for &mut BareRows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(BareRow(self))?.is_some() {}
        Ok(())
    }
}

struct BareRow<'r, 'n>(&'r mut BareRows<'n>);

impl<'de> DeserializeSeed<'de> for BareRow<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BareRow<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(key) = map.next_key::<&'de str>()? {
            if place == self.0.order.len() {
                let found = self.0.names.iter().position(|name| *name == key);
                self.0.order.push(found.expect("a known column"));
            }
            let slot = self.0.order[place];
            assert!(self.0.names[slot] == key, "the same order");
            let text = map.next_value::<&'de str>()?;
            match &mut self.0.columns[slot] {
                Bare::Int(values) => values.push(text.parse().expect("a number")),
                Bare::Text(values) => values.append_value(text),
            }
            place += 1;
        }
        Ok(())
    }
}
