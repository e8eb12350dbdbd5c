//! Whatever comes in, nothing panics; what is right comes out as it went in.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use bytes::Bytes;
use muster_results::{
    ColumnDecl, ColumnType, RowClass, RowFormat, RowMeta, SegmentBuilder, SegmentWriter, TableSpec,
    read_container,
};
use muster_types::{AgentKind, AgentNo, HuntNo, OrgId, Pos, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::{Value, json};

fn spec(open: bool) -> Arc<TableSpec> {
    use ColumnType::{Bool, Bytes, Float, Int, Json, Text, Time};
    let columns = [
        ("bool", Bool),
        ("int", Int),
        ("float", Float),
        ("time", Time),
        ("bytes", Bytes),
        ("json", Json),
        ("text", Text),
    ];
    let columns =
        columns.map(|(name, kind)| ColumnDecl { name: name.into(), kind }).into_iter().collect();
    Arc::new(TableSpec { name: "t".into(), class: RowClass::Scheduled, columns, open })
}

fn meta(agent: u32) -> RowMeta {
    RowMeta {
        org: OrgId(1),
        agent: AgentNo(agent),
        agent_kind: AgentKind::Velociraptor,
        hunt: HuntNo(0),
        attempt: 0,
        late: true,
        received_at: Timestamp(5),
        endpoint_time: Some(Timestamp(3)),
        shard: AgentNo(agent).shard(),
        pos: Pos(1),
    }
}

fn read(builder: SegmentBuilder) -> RecordBatch {
    let segment = builder.finish().unwrap();
    let part = &read_container(&segment.bytes).unwrap()[0];
    let range = part.byte_offset as usize..(part.byte_offset + part.byte_count) as usize;
    let builder = ParquetRecordBatchReaderBuilder::try_new(segment.bytes.slice(range)).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(n.to_string())),
        Just(json!("2024-01-01T00:00:00Z")),
        Just(json!("aGVsbG8=")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["bool", "int", "float", "time", "bytes", "json", "text"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["agent", "_raw", "TEXT", "", "hunt_"]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ]
}

fn rows() -> impl Strategy<Value = Vec<Vec<(String, Value)>>> {
    prop::collection::vec(prop::collection::vec((key(), value()), 0..8), 0..6)
}

/// As text, with keys that come twice.
fn text(rows: &[Vec<(String, Value)>]) -> String {
    let rows = rows.iter().map(|row| {
        let cells: Vec<_> = row
            .iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())))
            .collect();
        format!("{{{}}}", cells.join(","))
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_json_rows_are_taken(batches in prop::collection::vec(rows(), 1..4), open in any::<bool>()) {
        let mut builder = SegmentBuilder::new();
        let mut wanted = 0;
        for (agent, rows) in batches.iter().enumerate() {
            let body = text(rows);
            let meta = meta(9 - u32::try_from(agent).unwrap());
            let done = builder.append_json(&spec(open), &meta, RowFormat::Array, body.as_bytes());
            prop_assert_eq!(done.unwrap().rows as usize, rows.len());
            wanted += rows.len();
        }
        if wanted > 0 {
            let batch = read(builder);
            prop_assert_eq!(batch.num_rows(), wanted);
            prop_assert!(batch.column_by_name("agent").unwrap().as_primitive::<Int64Type>().values().is_sorted());
        }
    }

    #[test]
    fn any_bytes_are_taken_whole_or_not_at_all(
        body in prop::collection::vec(prop_oneof![
            prop::sample::select(b"[]{}\",:0123456789-.eE\\ntrufalsx \n".to_vec()), any::<u8>(),
        ], 0..120),
        lines in any::<bool>(),
    ) {
        let mut builder = SegmentBuilder::new();
        let first = br#"[{"int": 1, "text": "x"}]"#;
        builder.append_json(&spec(true), &meta(1), RowFormat::Array, first).unwrap();
        let (bytes, rows) = (builder.bytes(), builder.rows());
        let format = if lines { RowFormat::Lines } else { RowFormat::Array };
        match builder.append_json(&spec(true), &meta(1), format, &body) {
            Ok(done) => prop_assert_eq!(builder.rows(), rows + u64::from(done.rows)),
            Err(_) => prop_assert_eq!((builder.bytes(), builder.rows()), (bytes, rows)),
        }
        prop_assert_eq!(read(builder).num_rows() > 0, true);
    }

    #[test]
    fn a_body_cut_anywhere_leaves_no_trace(rows in rows(), at in 0.0..1.0_f64) {
        let body = text(&rows);
        let cut = body.floor_char_boundary((body.len() as f64 * at) as usize);
        let mut builder = SegmentBuilder::new();
        builder.append_json(&spec(true), &meta(1), RowFormat::Array, &body.as_bytes()[..cut]).unwrap_err();
        prop_assert!(builder.is_empty());
        prop_assert_eq!(builder.finish().unwrap().parts.len(), 0);
    }

    #[test]
    fn typed_values_come_back(
        rows in prop::collection::vec(
            (any::<Option<i64>>(), any::<Option<bool>>(), prop::option::of("\\PC{0,20}"),
             prop::option::of(prop::num::f64::NORMAL), any::<bool>()), 1..40),
    ) {
        let body: Vec<_> = rows.iter().map(|(int, flag, text, float, as_text)| {
            let quoted = |value: Value| if *as_text && !value.is_null() {
                Value::from(value.to_string())
            } else {
                value
            };
            json!({
                "int": quoted(json!(int)), "bool": quoted(json!(flag)), "text": text, "float": float,
            })
        }).collect();
        let body = Value::from(body).to_string();
        let mut builder = SegmentBuilder::new();
        let done = builder.append_json(&spec(false), &meta(1), RowFormat::Array, body.as_bytes()).unwrap();
        prop_assert_eq!(done.cast_failures, 0);
        let batch = read(builder);
        let column = |name| batch.column_by_name(name);
        for (row, (int, flag, text, float, _)) in rows.iter().enumerate() {
            let ints = column("int").map(|a| a.as_primitive::<Int64Type>());
            prop_assert_eq!(ints.and_then(|a| a.is_valid(row).then(|| a.value(row))), *int);
            let flags = column("bool").map(|a| a.as_boolean());
            prop_assert_eq!(flags.and_then(|a| a.is_valid(row).then(|| a.value(row))), *flag);
            let texts = column("text").map(|a| a.as_string::<i32>());
            prop_assert_eq!(texts.and_then(|a| a.is_valid(row).then(|| a.value(row).to_owned())), text.clone());
            let floats = column("float").map(|a| a.as_primitive::<Float64Type>());
            let float_out = floats.and_then(|a| a.is_valid(row).then(|| a.value(row)));
            prop_assert_eq!(float_out.is_some(), float.is_some());
            if let (Some(out), Some(float)) = (float_out, float) {
                prop_assert!((out - float).abs() <= float.abs() * 1e-15);
            }
        }
    }

    #[test]
    fn a_container_damaged_anywhere_is_refused_or_read(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut builder = SegmentBuilder::new();
        builder.append_json(&spec(false), &meta(1), RowFormat::Array, br#"[{"int":1}]"#).unwrap();
        let mut bytes = builder.finish().unwrap().bytes.to_vec();
        let length = bytes.len();
        prop_assert!(read_container(&bytes[..cut.index(length)]).is_err());
        let at = at.index(length);
        let whole = read_container(&bytes).unwrap();
        bytes[at] = byte;
        if let Ok(index) = read_container(&bytes) {
            prop_assert_eq!(index, whole);
        }
    }

    #[test]
    fn any_bytes_are_no_container(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read_container(&bytes).is_err());
    }

    #[test]
    fn an_index_with_a_right_sum_is_still_not_trusted(index in prop::collection::vec(any::<u8>(), 0..90)) {
        let (empty, _) = SegmentWriter::new().finish();
        let mut bytes = empty[..8].to_vec();
        bytes.extend_from_slice(&index);
        bytes.extend_from_slice(&crc32c::crc32c(&index).to_le_bytes());
        bytes.extend_from_slice(&(index.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&empty[..8]);
        let _ = read_container(&bytes);
    }
}

/// Written by the first version. It must be readable for ever.
#[test]
fn a_segment_of_version_1_is_read() {
    let bytes = Bytes::from_static(include_bytes!("data/version-1.museg"));
    let parts = read_container(&bytes).unwrap();
    let names: Vec<_> = parts.iter().map(|part| (part.table.as_str(), part.row_count)).collect();
    assert_eq!(names, [("one", 2), ("two", 1)]);
    assert_eq!((parts[0].org, parts[0].class, parts[0].day), (OrgId(1), RowClass::Collected, 0));
    let range =
        parts[0].byte_offset as usize..(parts[0].byte_offset + parts[0].byte_count) as usize;
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes.slice(range)).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    let int = batch.column_by_name("int").unwrap().as_primitive::<Int64Type>();
    assert_eq!(int.values(), &[1, 2]);
    let mut newer = bytes.to_vec();
    let mark = newer.len() - 2;
    newer[mark] = 9;
    assert_eq!(
        read_container(&newer).unwrap_err().to_string(),
        "segment format 9 is newer than this version reads"
    );
}

/// Makes the sample above; only for a new version.
#[test]
#[ignore = "writes test data"]
fn write_the_sample() {
    let mut builder = SegmentBuilder::new();
    for (name, body) in
        [("one", r#"[{"int":1,"text":"a"},{"int":2}]"#), ("two", r#"[{"bool":true}]"#)]
    {
        let spec =
            TableSpec { name: name.into(), class: RowClass::Collected, ..(*spec(false)).clone() };
        let body = body.as_bytes();
        builder.append_json(&Arc::new(spec), &meta(1), RowFormat::Array, body).unwrap();
    }
    std::fs::create_dir_all("tests/data").unwrap();
    std::fs::write("tests/data/version-1.museg", builder.finish().unwrap().bytes).unwrap();
}
