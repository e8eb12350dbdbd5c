//! What must hold at the end, and all along.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, UInt64Type};
use muster_archive::manifest::{self, PartFilter};
use muster_archive::sweep::{OrphanOptions, orphans_once, sweep_once};
use muster_catalog::args;
use muster_intake::fold::ShardProgress;
use muster_intake::janitor;
use muster_types::{AgentKind, HuntNo, OrgId, Outcome, Pos, Shard, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::world::{START, World};

muster_catalog::statements! {
    /// Where every shard stands.
    small OFFSETS = "SELECT shard, pos FROM shard_offset ORDER BY shard";
    /// Every object the catalog knows.
    small OBJECTS = "
        SELECT object FROM segment
        UNION ALL SELECT base_object FROM shard_offset WHERE base_object IS NOT NULL";
    /// Progress of every hunt.
    small PROGRESS = "SELECT hunt_no, shard, progress, row_count FROM hunt_shard";
}

/// Positions never go back, and nothing is trimmed that is not committed.
pub async fn positions(world: &World, last: &mut BTreeMap<Shard, Pos>) {
    for row in world.temp.catalog.fetch_all(&OFFSETS, args![]).await.unwrap() {
        let (shard, pos): (Shard, Pos) = (row.get("shard").unwrap(), row.get("pos").unwrap());
        let before = last.insert(shard, pos).unwrap_or_default();
        assert!(before <= pos, "shard {shard} went back from {before} to {pos}");
    }
    for (shard, upto) in world.stream.trims.lock().drain(..) {
        assert!(upto <= last[&shard], "shard {shard} was trimmed beyond its position");
    }
}

pub async fn everything(world: &World) {
    let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
    let mut of_hunt: HashMap<u64, u64> = HashMap::new();
    for table in ["rows_0", "rows_1", "lines"] {
        for batch in read(world, table).await {
            let (ids, hunts) = (column(&batch, "id"), column(&batch, "hunt"));
            for (id, hunt) in ids.into_iter().zip(hunts) {
                *rows.entry(id.unwrap() as u64).or_default() += 1;
                *of_hunt.entry(hunt.unwrap_or(0) as u64).or_default() += 1;
            }
        }
    }
    let twice: Vec<_> = rows.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "rows stored more than once: {twice:?}");
    let lost: Vec<_> = world.rows.iter().filter(|row| !rows.contains_key(row)).collect();
    assert!(lost.is_empty(), "rows lost: {lost:?}");
    assert_eq!(rows.len(), world.rows.len(), "rows nobody sent");
    outcomes(world, &of_hunt).await;
    objects(world).await;
}

/// Each recruited agent has one end in `collections`, and the bitmaps say the same.
async fn outcomes(world: &World, of_hunt: &HashMap<u64, u64>) {
    let mut ends: HashMap<(u64, u32), Outcome> = HashMap::new();
    for batch in read(world, "collections").await {
        let (hunts, agents) = (column(&batch, "hunt"), column(&batch, "agent"));
        let outcome = batch.column_by_name("outcome").unwrap();
        let outcome = arrow::compute::cast(outcome, &arrow::datatypes::DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let key = (hunts[row].unwrap() as u64, agents[row].unwrap() as u32);
            let outcome = outcome.as_string::<i32>().value(row).parse().unwrap();
            assert_eq!(ends.insert(key, outcome), None, "two ends of {key:?}");
        }
    }
    let recruited: BTreeSet<_> = world.recruited().into_keys().collect();
    let ended: BTreeSet<_> = ends.keys().copied().collect();
    assert_eq!(recruited, ended, "recruited and ended differ");
    let mut counted: HashMap<u64, u64> = HashMap::new();
    for row in world.temp.catalog.fetch_all(&PROGRESS, args![]).await.unwrap() {
        let (hunt, shard): (HuntNo, Shard) =
            (row.get("hunt_no").unwrap(), row.get("shard").unwrap());
        let progress = ShardProgress::decode(&row.get::<Vec<u8>>("progress").unwrap()).unwrap();
        *counted.entry(hunt.0).or_default() += row.get::<u64>("row_count").unwrap();
        for (key, outcome) in &ends {
            if key.0 == hunt.0 && key.1 % 64 == u32::from(shard.get()) {
                assert_eq!(progress.outcome(muster_types::AgentNo(key.1)), *outcome, "{key:?}");
            }
        }
    }
    counted.retain(|_, rows| *rows > 0);
    let mut stored = of_hunt.clone();
    stored.remove(&0);
    assert_eq!(counted, stored, "rows by hunt: counted and stored differ");
}

/// The present state of every endpoint is what its agent told, however often parts were merged.
pub async fn states(world: &World) {
    let mut merged = 0;
    for (table, kind) in
        [("followed_current", AgentKind::Osquery), ("whole_current", AgentKind::Native)]
    {
        let catalog = &world.temp.catalog;
        let all = PartFilter::default();
        let parts = manifest::parts_of(catalog, OrgId::DEFAULT, table, &all).await.unwrap();
        merged += parts.iter().filter(|part| part.level == 2).count();
        let mut batches = Vec::new();
        for batch in read(world, table).await {
            let gaps = batch.column_by_name("_gap").unwrap().as_boolean().clone();
            let ids = batch.column_by_name("id").is_some().then(|| column(&batch, "id"));
            let ids = ids.unwrap_or_else(|| vec![None; batch.num_rows()]);
            let counts = batch.column_by_name("_count").unwrap().as_primitive::<Int32Type>();
            let (agents, generations) = (column(&batch, "agent"), column(&batch, "_generation"));
            for (row, id) in ids.into_iter().enumerate() {
                let (agent, generation) = (agents[row].unwrap() as u32, generations[row].unwrap());
                batches.push((agent, generation, counts.value(row), gaps.value(row), id));
            }
        }
        for agent in world.agents.iter().filter(|agent| agent.kind == kind) {
            let of_agent = || batches.iter().filter(|row| row.0 == agent.no.0);
            let live = of_agent().filter(|row| row.2 == 0).map(|row| row.1).max();
            assert_eq!(live.is_some(), agent.state.told, "agent {} in {table}", agent.no);
            let mut rows: BTreeMap<u64, i64> = BTreeMap::new();
            let mut complete = true;
            for (_, _, count, gap, id) in of_agent().filter(|row| Some(row.1) == live) {
                complete &= !gap;
                if *count != 0 {
                    *rows.entry(id.unwrap() as u64).or_default() += i64::from(*count);
                }
            }
            rows.retain(|_, count| *count != 0);
            let mut believed = agent.state.believed.clone();
            believed.retain(|_, count| *count != 0);
            assert_eq!(rows, believed, "agent {} in {table}", agent.no);
            assert_eq!(complete || !agent.state.told, agent.state.complete || !agent.state.told);
        }
    }
    println!("  {merged} bases of current tables");
}

/// What the catalog names is there; and once everything old is swept, nothing else.
async fn objects(world: &World) {
    let (catalog, archive) = (&world.temp.catalog, &world.archive);
    let ahead = Timestamp(i64::MAX / 4);
    let orphans = OrphanOptions { days: 2, ..OrphanOptions::default() };
    while sweep_once(catalog, archive, ahead).await.unwrap() > 0 {}
    for days in 0..40 {
        let later = START.plus(Duration::from_secs(days * 86_400));
        orphans_once(catalog, archive, &orphans, later).await.unwrap();
        janitor::base_orphans_once(catalog, archive, &orphans, later).await.unwrap();
    }

    let there: BTreeSet<String> =
        world.archive.list("").await.unwrap().into_iter().map(|object| object.name).collect();
    let mut named = BTreeSet::new();
    for row in world.temp.catalog.fetch_all(&OBJECTS, args![]).await.unwrap() {
        let object: String = row.get("object").unwrap();
        assert!(there.contains(&object), "{object} is in the catalog and not in the archive");
        named.insert(object);
    }
    let orphans: Vec<_> = there.difference(&named).collect();
    assert!(orphans.is_empty(), "objects that nobody names: {orphans:?}");
}

async fn read(world: &World, table: &str) -> Vec<RecordBatch> {
    let catalog = &world.temp.catalog;
    let parts = manifest::parts_of(catalog, OrgId::DEFAULT, table, &PartFilter::default()).await;
    let mut batches = Vec::new();
    for part in parts.unwrap() {
        let range = part.info.byte_offset..part.info.byte_offset + part.info.byte_count;
        let bytes = world.archive.get_range(&part.object, range).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    batches
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    let column = batch.column_by_name(name).unwrap();
    match column.as_primitive_opt::<Int64Type>() {
        Some(numbers) => numbers.iter().collect(),
        None => column.as_primitive::<UInt64Type>().iter().map(|n| n.map(|n| n as i64)).collect(),
    }
}
