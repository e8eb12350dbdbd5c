//! Rows in, Parquet out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use muster_results::{
    BadRows, Cell, ColumnDecl, ColumnType, RowClass, RowFormat, RowMeta, SegmentBuilder, TableSpec,
    read_container,
};
use muster_types::{AgentKind, AgentNo, HuntNo, OrgId, Pos, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn spec(columns: &[(&str, ColumnType)], open: bool) -> Arc<TableSpec> {
    let columns =
        columns.iter().map(|(name, kind)| ColumnDecl { name: (*name).into(), kind: *kind });
    Arc::new(TableSpec {
        name: "t".into(),
        class: RowClass::Collected,
        columns: columns.collect(),
        open,
    })
}

fn meta(agent: u32, hunt: u64) -> RowMeta {
    RowMeta {
        org: OrgId(1),
        agent: AgentNo(agent),
        agent_kind: AgentKind::Native,
        hunt: HuntNo(hunt),
        attempt: 1,
        late: false,
        received_at: Timestamp(1_700_000_000_000_000),
        endpoint_time: None,
        shard: AgentNo(agent).shard(),
        pos: Pos(7),
    }
}

fn read(builder: SegmentBuilder) -> RecordBatch {
    let segment = builder.finish().unwrap();
    let index = read_container(&segment.bytes).unwrap();
    assert_eq!(index.len(), 1);
    assert_eq!(index[0].row_count, segment.parts[0].row_count);
    file(&segment.bytes, index[0].byte_offset, index[0].byte_count)
}

fn file(bytes: &Bytes, offset: u64, count: u64) -> RecordBatch {
    let bytes = bytes.slice(offset as usize..(offset + count) as usize);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let Some(array): Option<&ArrayRef> = batch.column_by_name(name) else {
        return vec![None; batch.num_rows()];
    };
    (0..array.len())
        .map(|row| array.is_valid(row).then(|| array_value_to_string(array, row).unwrap()))
        .collect()
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn values_are_cast_to_declared_types() {
    use ColumnType::{Bool, Bytes, Float, Int, Json, Text, Time};
    let spec = spec(
        &[
            ("i", Int),
            ("b", Bool),
            ("f", Float),
            ("t", Time),
            ("y", Bytes),
            ("j", Json),
            ("s", Text),
        ],
        false,
    );
    let mut builder = SegmentBuilder::new();
    let body = br#"[
        {"i": 5, "b": true, "f": 1.5, "t": "2024-02-03T04:05:06+01:00", "y": "aGk=", "j": {"a":1.0}, "s": "x"},
        {"i": "6", "b": "0", "f": "2", "t": 1700000000, "y": "aGk", "j": 1.50, "s": {"b": [1, 2.0]}},
        {"i": "", "b": "", "f": "", "t": "", "y": "", "j": null, "s": ""},
        {"i": 7.0, "b": 1, "f": 3, "t": "1.5", "y": null, "j": "q", "s": 1.10},
        {}
    ]"#;
    let appended = builder.append_json(&spec, &meta(1, 9), RowFormat::Array, body).unwrap();
    assert_eq!((appended.rows, appended.cast_failures), (5, 0));
    let batch = read(builder);
    assert_eq!(batch.num_rows(), 5);
    let i = batch.column_by_name("i").unwrap().as_primitive::<Int64Type>();
    assert_eq!(i.iter().collect::<Vec<_>>(), [Some(5), Some(6), None, Some(7), None]);
    let b = batch.column_by_name("b").unwrap().as_boolean();
    assert_eq!(b.iter().collect::<Vec<_>>(), [Some(true), Some(false), None, Some(true), None]);
    let f = batch.column_by_name("f").unwrap().as_primitive::<Float64Type>();
    assert_eq!(f.iter().collect::<Vec<_>>(), [Some(1.5), Some(2.0), None, Some(3.0), None]);
    let t = batch.column_by_name("t").unwrap().as_primitive::<TimestampMicrosecondType>();
    let wanted = [Some(1_706_929_506_000_000), Some(1_700_000_000_000_000), None, Some(1_500_000)];
    assert_eq!(t.iter().take(4).collect::<Vec<_>>(), wanted);
    let y = batch.column_by_name("y").unwrap().as_binary::<i32>();
    assert_eq!(y.iter().take(3).collect::<Vec<_>>(), [Some(&b"hi"[..]), Some(b"hi"), None]);
    let j = batch.column_by_name("j").unwrap().as_string::<i32>();
    let wanted = [Some(r#"{"a":1.0}"#), Some("1.50"), None, Some("\"q\""), None];
    assert_eq!(j.iter().collect::<Vec<_>>(), wanted);
    let s = batch.column_by_name("s").unwrap().as_string::<i32>();
    let wanted = [Some("x"), Some(r#"{"b": [1, 2.0]}"#), Some(""), Some("1.10"), None];
    assert_eq!(s.iter().collect::<Vec<_>>(), wanted);
    assert!(batch.column_by_name("_raw").is_none());
}

#[test]
fn what_does_not_fit_is_null_and_its_row_is_kept() {
    let spec = spec(&[("pid", ColumnType::Int), ("ok", ColumnType::Bool)], false);
    let mut builder = SegmentBuilder::new();
    let body = b"{\"pid\": 1}\n\n{\"pid\": \"x\", \"ok\": 7}\r\n{\"pid\": [1]}\n";
    let appended = builder.append_json(&spec, &meta(1, 9), RowFormat::Lines, body).unwrap();
    assert_eq!((appended.rows, appended.cast_failures), (3, 3));
    let batch = read(builder);
    assert_eq!(column(&batch, "pid"), [Some("1".into()), None, None]);
    let raw = [None, Some(r#"{"pid": "x", "ok": 7}"#.into()), Some(r#"{"pid": [1]}"#.into())];
    assert_eq!(column(&batch, "_raw"), raw);
    assert_eq!(column(&batch, "_row"), some(&["0", "1", "2"]));
}

#[test]
fn a_bad_body_leaves_nothing_behind() {
    let spec = spec(&[("pid", ColumnType::Int)], true);
    let mut builder = SegmentBuilder::new();
    let good = br#"[{"pid": 1, "name": "a"}]"#;
    builder.append_json(&spec, &meta(1, 9), RowFormat::Array, good).unwrap();
    let (bytes, rows) = (builder.bytes(), builder.rows());
    let deep = format!(r#"[{{"pid":3}},{{"deep":{}{}}}]"#, "[".repeat(200), "]".repeat(200));
    let bad: [&[u8]; 8] = [
        br#"[{"pid": 2, "new": "b"}, {"pid": 3"#,
        br#"[{"pid": 2, "name": "b"}] x"#,
        br#"[{"pid": 2}, 3]"#,
        br#"{"pid": 2}"#,
        b"",
        b"[{\"name\": \"\xff\"}]",
        b"[{\"name\": \"\x01\"}]",
        deep.as_bytes(),
    ];
    for body in bad {
        builder.append_json(&spec, &meta(2, 9), RowFormat::Array, body).unwrap_err();
        assert_eq!((builder.bytes(), builder.rows()), (bytes, rows), "{body:?}");
    }
    builder.append_json(&spec, &meta(3, 9), RowFormat::Array, good).unwrap();
    let batch = read(builder);
    assert_eq!(column(&batch, "agent"), some(&["1", "3"]));
    assert_eq!(column(&batch, "name"), some(&["a", "a"]));
    assert!(batch.column_by_name("new").is_none());
}

#[test]
fn names_fold_collide_and_overflow() {
    let spec = spec(&[("Pid", ColumnType::Int)], true);
    let mut builder = SegmentBuilder::new();
    let mut row = r#"{"PID": 1, "pid": 2, "agent": "mine", "bad\u0000name": [1]"#.to_owned();
    for n in 0..300 {
        row += &format!(r#", "c{n}": {n}"#);
    }
    row += "}";
    builder.append_json(&spec, &meta(1, 0), RowFormat::Lines, row.as_bytes()).unwrap();
    let segment = builder.finish().unwrap();
    assert_eq!(segment.parts[0].columns.len(), 256);
    assert_eq!(segment.parts[0].columns[0].name, "Pid");
    let batch = file(&segment.bytes, 8, segment.parts[0].byte_count);
    assert_eq!(column(&batch, "pid"), some(&["2"]));
    assert_eq!(column(&batch, "agent_"), some(&["mine"]));
    assert_eq!(column(&batch, "agent"), some(&["1"]));
    assert_eq!(column(&batch, "hunt"), [None]);
    assert_eq!(column(&batch, "c253"), some(&["253"]));
    let extra = column(&batch, "_extra").remove(0).unwrap();
    let extra: serde_json::Value = serde_json::from_str(&extra).unwrap();
    assert_eq!(extra["c299"], 299);
    assert_eq!(extra["bad\0name"][0], 1);
}

#[test]
fn rows_stand_in_the_order_of_their_class() {
    let spec = spec(&[("name", ColumnType::Text), ("n", ColumnType::Int)], false);
    let mut builder = SegmentBuilder::new();
    for (agent, hunt, name) in [(5, 2, "e"), (1, 3, "a"), (9, 1, "i"), (5, 1, "f")] {
        let body = format!(r#"[{{"name":"{name}1","n":1}},{{"name":"{name}2"}}]"#);
        let format = RowFormat::Array;
        builder.append_json(&spec, &meta(agent, hunt), format, body.as_bytes()).unwrap();
    }
    let batch = read(builder);
    assert_eq!(column(&batch, "hunt"), some(&["1", "1", "1", "1", "2", "2", "3", "3"]));
    assert_eq!(column(&batch, "agent"), some(&["5", "5", "9", "9", "5", "5", "1", "1"]));
    let names = some(&["f1", "f2", "i1", "i2", "e1", "e2", "a1", "a2"]);
    assert_eq!(column(&batch, "name"), names);
    let n: Vec<_> = column(&batch, "n").into_iter().map(|n| n.is_some()).collect();
    assert_eq!(n, [true, false, true, false, true, false, true, false]);
}

#[test]
fn rows_that_move_in_several_pieces_keep_their_places() {
    let spec = spec(&[("s", ColumnType::Text), ("n", ColumnType::Int)], false);
    let mut builder = SegmentBuilder::new();
    for agent in (1..=40_u32).rev() {
        let (long, format) = ("x".repeat(300_000), RowFormat::Array);
        let body = format!(r#"[{{"s":"{agent}-{long}","n":{agent}}},{{"s":"{agent}"}}]"#);
        builder.append_json(&spec, &meta(agent, 9), format, body.as_bytes()).unwrap();
    }
    let batch = read(builder);
    let (agents, s, n) = (column(&batch, "agent"), column(&batch, "s"), column(&batch, "n"));
    assert_eq!(agents.len(), 80);
    for (at, agent) in (1..=40_u32).flat_map(|agent| [agent, agent]).enumerate() {
        let agent = agent.to_string();
        assert_eq!(agents[at].as_deref(), Some(&*agent));
        assert_eq!(s[at].as_deref().unwrap().split('-').next(), Some(&*agent));
        assert_eq!(n[at], (at % 2 == 0).then_some(agent));
    }
}

#[test]
fn a_declaration_may_widen_what_is_there() {
    let mut builder = SegmentBuilder::new();
    let (ints, texts) =
        (spec(&[("v", ColumnType::Int)], true), spec(&[("v", ColumnType::Text)], true));
    builder.append_json(&ints, &meta(1, 9), RowFormat::Array, br#"[{"v": 1},{}]"#).unwrap();
    builder.append_json(&texts, &meta(2, 9), RowFormat::Array, br#"[{"v": "x"}]"#).unwrap();
    builder.append_json(&ints, &meta(3, 9), RowFormat::Array, br#"[{"v": 3}]"#).unwrap();
    let batch = read(builder);
    assert_eq!(column(&batch, "v"), [Some("1".into()), None, Some("x".into()), Some("3".into())]);
}

#[test]
fn rows_are_bounded_by_the_length_of_their_body() {
    let columns: Vec<_> = (0..255).map(|n| (format!("c{n}"), ColumnType::Int)).collect();
    let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    let mut builder = SegmentBuilder::new();
    let body = format!("[{}{{}}]", "{},".repeat(200_000));
    let refused =
        builder.append_json(&spec(&columns, false), &meta(1, 9), RowFormat::Array, body.as_bytes());
    assert!(matches!(refused, Err(BadRows::TooManyRows(16_195))), "{refused:?}");
    // Rows of nothing, each of which the server puts its own columns beside.
    let mut builder = SegmentBuilder::new();
    let body = format!("[{}{{}}]", "{},".repeat(2_000_000));
    let refused =
        builder.append_json(&spec(&[], true), &meta(1, 9), RowFormat::Array, body.as_bytes());
    assert!(matches!(refused, Err(BadRows::TooManyRows(1_500_002))), "{refused:?}");
    let few = format!("[{}{{}}]", "{},".repeat(99_999));
    builder.append_json(&spec(&[], true), &meta(1, 9), RowFormat::Array, few.as_bytes()).unwrap();
    assert!(builder.bytes() > 100_000 * 100, "they count: {}", builder.bytes());
}

#[test]
fn long_texts_are_cut_and_odd_ones_read() {
    let spec = spec(&[("s", ColumnType::Text), ("j", ColumnType::Json)], false);
    let long = "ä".repeat(600_000);
    let body =
        format!(r#"[{{"s":"{long}"}},{{"s":{{"x":1}},"j":"{long}"}},{{"s":"\ud800\u00e4"}}]"#);
    let mut builder = SegmentBuilder::new();
    let appended =
        builder.append_json(&spec, &meta(1, 9), RowFormat::Array, body.as_bytes()).unwrap();
    assert_eq!((appended.rows, appended.cast_failures), (3, 2));
    let batch = read(builder);
    let s = column(&batch, "s");
    let cut = s[0].as_ref().unwrap();
    assert!(cut.len() <= 1 << 20 && cut.ends_with("… [cut, 1200000 bytes]"));
    assert_eq!(s[2].as_deref(), Some("\u{fffd}\u{fffd}\u{fffd}ä"));
    assert_eq!(column(&batch, "j"), [None, None, None]);
}

#[test]
fn halves_of_surrogate_pairs_cost_no_body() {
    let spec = spec(&[("i", ColumnType::Int)], true);
    let body = br#"[{"i": "1", "s": "\udc00x", "t": "\ud83d\ude00"}, {"i": "\ud800"}]"#;
    let mut builder = SegmentBuilder::new();
    let done = builder.append_json(&spec, &meta(1, 9), RowFormat::Array, body).unwrap();
    assert_eq!((done.rows, done.cast_failures), (2, 1));
    let batch = read(builder);
    assert_eq!(column(&batch, "s"), [Some("\u{fffd}\u{fffd}\u{fffd}x".into()), None]);
    assert_eq!(column(&batch, "t"), [Some("😀".into()), None]);
    assert_eq!(column(&batch, "i"), [Some("1".into()), None]);
}

#[test]
fn system_rows_and_days_make_parts() {
    let spec = spec(&[("message", ColumnType::Text), ("at", ColumnType::Time)], false);
    let mut builder = SegmentBuilder::new();
    let row = [("message", Cell::Text("hello")), ("at", Cell::Time(Timestamp(5)))];
    builder.append_row(&spec, &meta(1, 9), &row);
    builder.append_row(&spec, &meta(1, 9), &row[..1]);
    let tomorrow = Timestamp(1_700_000_000_000_000 + Timestamp::DAY_MICROS);
    builder.append_row(&spec, &RowMeta { received_at: tomorrow, ..meta(4, 9) }, &row);
    let segment = builder.finish().unwrap();
    let rows: Vec<_> = segment.parts.iter().map(|part| part.row_count).collect();
    assert_eq!(rows, [2, 1]);
    assert_eq!(segment.parts[1].day, segment.parts[0].day + 1);
    assert_eq!(segment.parts[1].agent_min, AgentNo(4));
    let batch = file(&segment.bytes, 8, segment.parts[0].byte_count);
    assert_eq!(column(&batch, "_row"), some(&["0", "1"]));
    assert_eq!(column(&batch, "message"), some(&["hello", "hello"]));
}
