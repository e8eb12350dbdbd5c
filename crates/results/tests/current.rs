//! Merging the present state: any parts in any order come to the same rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use muster_results::{
    ColumnDecl, ColumnType, Dropped, MIXED, Origin, RowClass, RowFormat, RowMeta, SegmentBuilder,
    Source, Step, TableSpec, bucket, merge_current,
};
use muster_types::{AgentKind, AgentNo, AgentSet, HuntNo, OrgId, Pos, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use proptest::prelude::*;

const ORG: OrgId = OrgId(1);

fn spec(columns: &[(&str, ColumnType)]) -> Arc<TableSpec> {
    let columns =
        columns.iter().map(|(name, kind)| ColumnDecl { name: (*name).to_owned(), kind: *kind });
    let columns = columns.collect();
    Arc::new(TableSpec { name: "x_current".into(), class: RowClass::Current, columns, open: false })
}

fn software() -> Arc<TableSpec> {
    spec(&[("name", ColumnType::Text), ("arch", ColumnType::Text), ("n", ColumnType::Int)])
}

fn meta(agent: u32, second: i64) -> RowMeta {
    RowMeta {
        org: ORG,
        agent: AgentNo(agent),
        agent_kind: AgentKind::Osquery,
        hunt: HuntNo(0),
        attempt: 0,
        late: false,
        received_at: Timestamp(second * 1_000_000),
        endpoint_time: None,
        shard: AgentNo(agent).shard(),
        pos: Pos(second.unsigned_abs()),
    }
}

/// One step of one source.
#[derive(Clone, Debug)]
struct Told {
    agent: u32,
    source: &'static str,
    generation: u32,
    step: Step,
    rows: Vec<u8>,
    at: i64,
}

/// Row 0 has no name, row 1 nothing at all.
fn json(rows: &[u8]) -> String {
    let row = |row: &u8| match row {
        0 => r#"{"n":7}"#.to_owned(),
        1 => "{}".to_owned(),
        n => format!(r#"{{"name":"p{n}","arch":"amd64","n":{n}}}"#),
    };
    format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(","))
}

fn part(told: &[Told], table: &Arc<TableSpec>) -> Source {
    let mut builder = SegmentBuilder::new();
    for told in told {
        let meta = meta(told.agent, told.at);
        let origin =
            |step| Origin::Current { source: told.source, generation: told.generation, step };
        let mark = if told.step == Step::Gap { Step::Gap } else { Step::Mark };
        builder.append_row_from(table, &meta, origin(mark), &[]);
        if !told.rows.is_empty() {
            let json = json(&told.rows);
            let origin = origin(told.step);
            builder.append_from(table, &meta, origin, RowFormat::Array, json.as_bytes()).unwrap();
        }
    }
    let built = builder.finish().unwrap();
    assert_eq!(built.parts.len(), 1);
    assert_eq!((built.parts[0].day, built.parts[0].class), (MIXED, RowClass::Current));
    let at = &built.parts[0];
    let range = at.byte_offset as usize..(at.byte_offset + at.byte_count) as usize;
    Source { file: built.bytes.slice(range) }
}

fn merge(sources: &[Source]) -> Vec<Source> {
    let merged = merge_current(ORG, "x_current", sources, &Dropped::default()).unwrap();
    merged
        .into_iter()
        .map(|part| {
            let rows = batches(&part.file);
            assert_eq!(
                rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64,
                part.info.row_count
            );
            let range = part.info.agent_min..=part.info.agent_max;
            assert!(
                bucket(*range.start()) == part.info.day && bucket(*range.end()) == part.info.day
            );
            Source { file: part.file.into() }
        })
        .collect()
}

fn batches(file: &[u8]) -> Vec<RecordBatch> {
    let file = Bytes::copy_from_slice(file);
    ParquetRecordBatchReader::try_new(file, 1000).unwrap().map(Result::unwrap).collect()
}

/// How a source stands, and how often each of its rows is there and since when.
type State = (i64, i64, bool, BTreeMap<String, (i64, i64)>);

/// What the parts come to.
fn present(sources: &[Source]) -> BTreeMap<(i64, String), State> {
    let mut states: BTreeMap<(i64, String), State> = BTreeMap::new();
    for marks in [true, false] {
        for batch in sources.iter().flat_map(|source| batches(&source.file)) {
            let numbers = |name: &str| batch.column_by_name(name).unwrap();
            let agents = numbers("agent").as_primitive::<Int64Type>();
            let generations = numbers("_generation").as_primitive::<Int64Type>();
            let counts = numbers("_count").as_primitive::<Int32Type>();
            let times = numbers("received_time").as_primitive::<TimestampMicrosecondType>();
            let gaps = numbers("_gap").as_boolean();
            let names = cast(numbers("_source"), &DataType::Utf8).unwrap();
            let text = |name: &str, row: usize| {
                let Some(column) = batch.column_by_name(name) else { return "-".to_owned() };
                let column = cast(column, &DataType::Utf8).unwrap();
                let column = column.as_string::<i32>();
                if column.is_null(row) { "-".into() } else { column.value(row).to_owned() }
            };
            for row in 0..batch.num_rows() {
                let key = (agents.value(row), names.as_string::<i32>().value(row).to_owned());
                let (generation, at) = (generations.value(row), times.value(row) / 1_000_000);
                let state = states.entry(key).or_default();
                let count = i64::from(counts.value(row));
                if marks && count == 0 {
                    if generation > state.0 {
                        *state = (generation, 0, false, BTreeMap::new());
                    }
                    if generation == state.0 {
                        state.1 = state.1.max(at);
                        state.2 |= gaps.value(row);
                    }
                } else if !marks && count != 0 {
                    let text =
                        format!("{} {} {}", text("name", row), text("arch", row), text("n", row));
                    let known = state.3.entry(text).or_insert((0, i64::MAX));
                    known.0 += if generation == state.0 { count } else { 0 };
                    known.1 = if count > 0 { known.1.min(at) } else { known.1 };
                }
            }
        }
    }
    for state in states.values_mut() {
        state.3.retain(|_, (count, _)| *count != 0);
    }
    states
}

fn history() -> impl Strategy<Value = Vec<Vec<Told>>> {
    let step = (1u32..4, 0usize..2, 0u8..10, proptest::collection::vec(0u8..6, 0..5), 0usize..4);
    proptest::collection::vec(step, 1..40).prop_map(|steps| {
        let mut parts = vec![Vec::new(); 4];
        let mut there: BTreeMap<(u32, usize), (u32, Vec<u8>)> = BTreeMap::new();
        for (at, (agent, source, roll, rows, part)) in (1..).zip(steps) {
            let agent = agent * 17;
            let state = there.entry((agent, source)).or_default();
            let (step, rows) = match roll {
                0..3 => (Step::Add, rows),
                3..6 => {
                    let gone = rows.len().min(state.1.len());
                    (Step::Remove, state.1.drain(..gone).collect())
                }
                6 => (Step::Gap, Vec::new()),
                7 => (Step::Mark, Vec::new()),
                _ => {
                    *state = (state.0 + 1, Vec::new());
                    (Step::Add, rows)
                }
            };
            state.0 = state.0.max(1);
            if step == Step::Add {
                state.1.extend(&rows);
            }
            let source = ["a", "b"][source];
            parts[part].push(Told { agent, source, generation: state.0, step, rows, at });
        }
        parts.retain(|part| !part.is_empty());
        parts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_merge_keeps_what_there_is(parts in history(), order in any::<[prop::sample::Index; 4]>()) {
        let fresh: Vec<Source> = parts.iter().map(|told| part(told, &software())).collect();
        let all = present(&fresh);
        let once = merge(&fresh);
        let strip = |states: &BTreeMap<(i64, String), State>| {
            let rows = states.iter().map(|(key, state)| {
                let rows: Vec<_> = state.3.iter().map(|(row, seen)| (row.clone(), seen.0)).collect();
                (key.clone(), (state.0, state.1, state.2, rows))
            });
            rows.collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(&present(&once), &all, "everything at once");
        prop_assert_eq!(&present(&merge(&once)), &all, "again");
        let mut left = fresh;
        while left.len() > 1 {
            let a = left.swap_remove(order[left.len() % 4].index(left.len()));
            let b = left.swap_remove(order[left.len() % 4].index(left.len()));
            left.push(merge_all(merge(&[a, b])));
            prop_assert_eq!(strip(&present(&left)), strip(&all), "two by two");
        }
    }
}

/// Buckets are told apart by their agents only: for a merge of all they may stand in one list.
fn merge_all(parts: Vec<Source>) -> Source {
    if parts.len() == 1 {
        return parts.into_iter().next().unwrap();
    }
    // Agents 17, 34 and 51 have the buckets 1, 2 and 3; a part of several is as good a source.
    let rows: Vec<RecordBatch> = parts.iter().flat_map(|part| batches(&part.file)).collect();
    let schema = rows[0].schema();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, schema, None).unwrap();
    rows.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    Source { file: file.into() }
}

#[test]
fn merged_rows_stand_by_name_and_marks_first() {
    let told = |agent, rows: &[u8], at| Told {
        agent,
        source: "a",
        generation: 1,
        step: Step::Add,
        rows: rows.to_vec(),
        at,
    };
    let one = part(&[told(16, &[5, 2], 1), told(32, &[4, 2, 2], 2)], &software());
    let two = part(&[told(48, &[3, 2], 3)], &software());
    let merged = merge_current(ORG, "x_current", &[one, two], &Dropped::default()).unwrap();
    assert_eq!(merged.len(), 1, "one bucket");
    let rows = &batches(&merged[0].file)[0];
    let names = cast(rows.column_by_name("name").unwrap(), &DataType::Utf8).unwrap();
    let names: Vec<_> =
        names.as_string::<i32>().iter().map(|n| n.unwrap_or("-").to_owned()).collect();
    assert_eq!(names, ["-", "-", "-", "p2", "p2", "p2", "p3", "p4", "p5"]);
    let counts = rows.column_by_name("_count").unwrap().as_primitive::<Int32Type>();
    assert_eq!(counts.values().to_vec(), [0, 0, 0, 1, 2, 1, 1, 1, 1]);
}

#[test]
fn columns_may_come_and_widen() {
    let told = Told { agent: 1, source: "a", generation: 1, step: Step::Add, rows: vec![3], at: 1 };
    let narrow = part(std::slice::from_ref(&told), &spec(&[("n", ColumnType::Int)]));
    let wide = part(
        &[Told { at: 2, ..told }],
        &spec(&[("n", ColumnType::Text), ("name", ColumnType::Text)]),
    );
    let merged = merge(&[narrow, wide]);
    let state = present(&merged).into_values().next().unwrap();
    let rows: Vec<_> = state.3.into_iter().collect();
    assert_eq!(rows, [("- - 3".to_owned(), (1, 1)), ("p3 - 3".to_owned(), (1, 2))]);
}

#[test]
fn deleted_agents_leave_no_mark() {
    let told =
        |agent| Told { agent, source: "a", generation: 1, step: Step::Add, rows: vec![2], at: 1 };
    let parts = [part(&[told(1), told(17)], &software())];
    let mut agents = AgentSet::default();
    agents.insert(AgentNo(17));
    let dropped = Dropped { agents, ..Dropped::default() };
    let merged = merge_current(ORG, "x_current", &parts, &dropped).unwrap();
    assert_eq!(merged.iter().map(|part| part.info.row_count).sum::<u64>(), 2);
}

#[test]
fn a_damaged_part_is_named() {
    let told = Told { agent: 1, source: "a", generation: 1, step: Step::Add, rows: vec![2], at: 1 };
    let good = part(&[told], &software());
    let bad = Source { file: Bytes::from_static(b"PAR1 no PAR1") };
    let error = merge_current(ORG, "x_current", &[good, bad], &Dropped::default()).unwrap_err();
    assert!(matches!(error, muster_results::MergeError::Damaged { index: 1, .. }), "{error}");
}

#[test]
fn scheduled_rows_say_where_they_come_from() {
    let table = TableSpec { class: RowClass::Scheduled, ..(*software()).clone() };
    let (table, mut builder) = (Arc::new(table), SegmentBuilder::new());
    let action = Some(muster_results::Action::Removed);
    let origin = Origin::Scheduled { source: "pack/a/b", action };
    builder.append_from(&table, &meta(1, 1), origin, RowFormat::Array, b"[{\"n\":1}]").unwrap();
    builder
        .append_json(&table, &meta(1, 2), RowFormat::Array, b"[{\"n\":2,\"_source\":9}]")
        .unwrap();
    let built = builder.finish().unwrap();
    let rows = &batches(
        &built.bytes[built.parts[0].byte_offset as usize..][..built.parts[0].byte_count as usize],
    )[0];
    let text = |name: &str| {
        let column = cast(rows.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(text("_source"), [Some("pack/a/b".to_owned()), None]);
    assert_eq!(text("_action"), [Some("removed".to_owned()), None]);
}
