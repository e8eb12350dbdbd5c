//! Parts merged: nothing lost, order and types right.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use muster_results::{
    BuiltSegment, ColumnDecl, ColumnType, Dropped, RowClass, RowFormat, RowMeta, SegmentBuilder,
    Source, TableSpec, column_types, limits, merge_parts,
};
use muster_types::{AgentKind, AgentNo, AgentSet, HuntNo, OrgId, Pos, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn segment(rows: &[(u32, u64, u64, &str)], kind: ColumnType) -> BuiltSegment {
    let columns = vec![ColumnDecl { name: "v".into(), kind }];
    let class = RowClass::Collected;
    let spec = Arc::new(TableSpec { name: "t".into(), class, columns, open: true });
    let mut builder = SegmentBuilder::new();
    for (agent, hunt, pos, json) in rows {
        let meta = RowMeta {
            org: OrgId(1),
            agent: AgentNo(*agent),
            agent_kind: AgentKind::Osquery,
            hunt: HuntNo(*hunt),
            attempt: 1,
            late: false,
            received_at: Timestamp(i64::try_from(*pos).unwrap()),
            endpoint_time: None,
            shard: AgentNo(*agent).shard(),
            pos: Pos(*pos),
        };
        builder.append_json(&spec, &meta, RowFormat::Array, json.as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

fn source(segment: &BuiltSegment) -> Source {
    let part = &segment.parts[0];
    let range = part.byte_offset as usize..(part.byte_offset + part.byte_count) as usize;
    Source { file: segment.bytes.slice(range) }
}

fn read(file: Vec<u8>) -> (RecordBatch, Vec<ColumnDecl>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
    let schema = builder.schema().clone();
    let metadata = builder.metadata().file_metadata().key_value_metadata().cloned();
    let types = column_types(&schema, metadata.as_ref());
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    (arrow::compute::concat_batches(&schema, &batches).unwrap(), types)
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn parts_of_several_schemas_become_one_in_order() {
    let one =
        segment(&[(1, 5, 1, r#"[{"v":1},{"v":2}]"#), (3, 5, 3, r#"[{"v":5}]"#)], ColumnType::Int);
    let two = segment(
        &[(2, 5, 2, r#"[{"v":"x","w":"y"}]"#), (9, 4, 4, r#"[{"v":"z"}]"#)],
        ColumnType::Text,
    );
    let sources = [source(&one), source(&two)];
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &sources, &Dropped::default());
    let merged = merged.unwrap().unwrap();
    assert_eq!(merged.info.row_count, 5);
    assert_eq!((merged.info.agent_min, merged.info.agent_max), (AgentNo(1), AgentNo(9)));
    assert_eq!((merged.info.hunt_min, merged.info.hunt_max), (HuntNo(4), HuntNo(5)));
    assert_eq!(merged.info.received_max, Timestamp(4));
    let (batch, types) = read(merged.file);
    assert_eq!(numbers(&batch, "hunt"), [4, 5, 5, 5, 5]);
    assert_eq!(numbers(&batch, "agent"), [9, 1, 1, 2, 3]);
    let v: Vec<_> = batch.column_by_name("v").unwrap().as_string::<i32>().iter().collect();
    assert_eq!(v, [Some("z"), Some("1"), Some("2"), Some("x"), Some("5")]);
    let w = batch.column_by_name("w").unwrap();
    assert_eq!((0..5).filter(|row| w.is_valid(*row)).collect::<Vec<_>>(), [3]);
    assert!(types.iter().all(|column| column.kind == ColumnType::Text));
}

#[test]
fn json_columns_stay_json() {
    let one = segment(&[(1, 5, 1, r#"[{"v":{"a":1}}]"#)], ColumnType::Json);
    let two = segment(&[(1, 5, 2, r#"[{"v":7}]"#)], ColumnType::Int);
    let sources = [source(&one), source(&two)];
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &sources, &Dropped::default());
    let (batch, types) = read(merged.unwrap().unwrap().file);
    assert_eq!(types, [ColumnDecl { name: "v".into(), kind: ColumnType::Json }]);
    let v: Vec<_> = batch.column_by_name("v").unwrap().as_string::<i32>().iter().collect();
    assert_eq!(v, [Some(r#"{"a":1}"#), Some("7")]);
}

#[test]
fn rows_of_deleted_agents_and_hunts_go() {
    let rows: Vec<_> =
        (0..40).map(|n| (n % 4, u64::from(n % 5), u64::from(n), r#"[{"v":1}]"#)).collect();
    let one = segment(&rows, ColumnType::Int);
    let mut agents = AgentSet::default();
    agents.insert(AgentNo(2));
    let dropped = Dropped { agents, hunts: BTreeSet::from([HuntNo(3)]), all_but: None };
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &[source(&one)], &dropped);
    let (batch, _) = read(merged.unwrap().unwrap().file);
    let kept = rows.iter().filter(|(agent, hunt, ..)| *agent != 2 && *hunt != 3).count();
    assert_eq!(batch.num_rows(), kept);
    assert!(!numbers(&batch, "agent").contains(&2));
    let all = Dropped { all_but: Some(BTreeSet::new()), ..Dropped::default() };
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &[source(&one)], &all);
    assert!(merged.unwrap().is_none());
}

#[test]
fn many_sources_with_large_batches_lose_nothing() {
    let body = format!("[{}]", vec![r#"{"v":1}"#; 700].join(","));
    let segments: Vec<_> = (0..20_u32)
        .map(|n| {
            let rows: Vec<_> = (0..4_u32)
                .map(|m| ((n * 7 + m * 13) % 50, 1, u64::from(n * 4 + m), body.as_str()))
                .collect();
            segment(&rows, ColumnType::Int)
        })
        .collect();
    let sources: Vec<_> = segments.iter().map(source).collect();
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &sources, &Dropped::default());
    let (batch, _) = read(merged.unwrap().unwrap().file);
    assert_eq!(batch.num_rows(), 20 * 4 * 700);
    let agents = numbers(&batch, "agent");
    assert!(agents.is_sorted());
}

#[test]
fn bytes_that_are_no_parquet_are_an_error() {
    let sources = [Source { file: Bytes::from_static(b"PAR1 nothing PAR1") }];
    merge_parts(OrgId(1), "t", RowClass::Collected, 0, &sources, &Dropped::default()).unwrap_err();
}

/// One agent makes up names of columns, segment after segment: the merged part keeps the table's own, and
/// what the others held.
#[test]
fn made_up_columns_do_not_widen_a_merged_part_without_end() {
    let made_up = |segment: u32| {
        let cells = (0..200).map(|n| format!("\"x{segment}_{n}\":\"{segment} {n}\""));
        cells.collect::<Vec<_>>().join(",")
    };
    let segments: Vec<BuiltSegment> = (0..8)
        .map(|n| {
            let hostile = format!("[{{\"v\":{n},\"w\":\"own\",{}}}]", made_up(n));
            let rows = [
                (1, 5, u64::from(n) * 2 + 1, &*hostile),
                (2, 5, u64::from(n) * 2 + 2, r#"[{"v":7,"w":"own"}]"#),
            ];
            segment(&rows, ColumnType::Int)
        })
        .collect();
    let sources: Vec<Source> = segments.iter().map(source).collect();
    let merge = |sources: &[Source]| {
        let merged =
            merge_parts(OrgId(1), "t", RowClass::Collected, 0, sources, &Dropped::default());
        merged.unwrap().unwrap()
    };
    let merged = merge(&sources);
    assert_eq!(merged.info.columns.len(), limits::MERGED_COLUMNS);
    // Once more: what was moved out of the way stays there.
    let again = Source { file: Bytes::from(merged.file) };
    let merged = merge(&[again, sources[0].clone()]);
    assert_eq!(merged.info.row_count, 18);
    let (batch, types) = read(merged.file);
    let names: BTreeSet<&str> = types.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names.len(), limits::MERGED_COLUMNS);
    let (v, w) = (numbers(&batch, "v"), batch.column_by_name("w").unwrap());
    assert_eq!(v.iter().filter(|v| **v == 7).count(), 10);
    assert_eq!(w.null_count(), 0, "the table's own columns stay");
    let extra = batch.column_by_name("_extra").unwrap().as_string::<i32>();
    let moved = |row: usize| -> serde_json::Map<String, serde_json::Value> {
        match extra.is_valid(row) {
            true => serde_json::from_str(extra.value(row)).unwrap(),
            false => serde_json::Map::new(),
        }
    };
    for (row, agent) in numbers(&batch, "agent").into_iter().enumerate() {
        let moved = moved(row);
        if agent == 2 {
            assert!(moved.is_empty());
            continue;
        }
        // Each made up value is in a column or in `_extra`, once.
        for n in 0..200 {
            let name = format!("x{}_{n}", v[row]);
            let column = batch.column_by_name(&name).map(|array| array.as_string::<i32>());
            let cell = column.filter(|c| c.is_valid(row)).map(|c| c.value(row).to_owned());
            let extra = moved.get(&name).map(|value| value.as_str().unwrap().to_owned());
            assert_eq!(cell.xor(extra), Some(format!("{} {n}", v[row])), "{name}");
        }
    }
}

/// Rows as long as cells may be: as many as fit into memory are read at once, not as many as usual.
#[test]
fn long_rows_are_merged_a_few_at_a_time() {
    const ROWS: u64 = 400;
    let long = "a long line; ".repeat(60_000);
    let json: Vec<String> = (0..ROWS).map(|n| format!("[{{\"v\":\"{n} {long}\"}}]")).collect();
    let rows: Vec<_> = json.iter().zip(1..).map(|(json, pos)| (1, 5, pos, json.as_str())).collect();
    let (left, right) = rows.split_at(rows.len() / 2);
    let sources = [left, right].map(|rows| source(&segment(rows, ColumnType::Text)));
    drop(json);
    // The peak counts from now on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let merged = merge_parts(OrgId(1), "t", RowClass::Collected, 0, &sources, &Dropped::default());
    let merged = merged.unwrap().unwrap();
    assert_eq!(merged.info.row_count, ROWS);
    let grown = memory("VmHWM:").saturating_sub(before);
    let whole = ROWS * long.len() as u64;
    assert!(grown < whole / 2, "{grown} bytes more for {whole} bytes of rows");
}

/// What the kernel says of this process, in bytes.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}
