//! Rows of a deleted hunt leave the archive, and a hold keeps them.

use std::sync::Arc;

use bytes::Bytes;
use muster_archive::{Archive, manifest, segment_name};
use muster_catalog::{Priority, args, statements};
use muster_intake::deletion::Purge;
use muster_results::{RowClass, RowMeta, SegmentBuilder, TableSpec};
use muster_testkit::TempCatalog;
use muster_types::{
    AgentKind, AgentNo, ColumnDecl, ColumnType, HuntNo, OrgId, Pos, RowFormat, Timestamp,
};

statements! {
    HUNT = "
        INSERT INTO hunt (no, org, kind, state, title, artifact, definition, table_name, scope,
            limits, caller_scope, requested_by, reason, hold_until, created_at, expires_at, wave,
            recruited_total, recruit_from, epoch, deleted_at, change)
        VALUES ($1, 1, 'hunt', 'stopped', '', '', '{}', 't', '{}', '{}', '[]', 'ana', '', $2, 0, 1,
            0, 0, 0, 0, $3, $1)";
    END_HOLD = "UPDATE hunt SET hold_until = NULL WHERE no = $1";
}

const NOW: Timestamp = Timestamp(40 * Timestamp::DAY_MICROS);

async fn segment(archive: &Archive, catalog: &muster_catalog::Catalog, hunt: u64) -> String {
    let table = Arc::new(TableSpec {
        name: "t".into(),
        class: RowClass::Collected,
        columns: vec![ColumnDecl { name: "a".into(), kind: ColumnType::Int }],
        open: false,
    });
    let agent = AgentNo(7);
    let meta = RowMeta {
        org: OrgId::DEFAULT,
        agent,
        agent_kind: AgentKind::Native,
        hunt: HuntNo(hunt),
        attempt: 1,
        late: false,
        received_at: Timestamp(Timestamp::DAY_MICROS),
        endpoint_time: None,
        shard: agent.shard(),
        pos: Pos(hunt),
    };
    let mut builder = SegmentBuilder::default();
    builder.append_json(&table, &meta, RowFormat::Array, br#"[{"a":1},{"a":2}]"#).unwrap();
    let built = builder.finish().unwrap();
    let name = segment_name(1, "test");
    archive.put_new(&name, Bytes::clone(&built.bytes)).await.unwrap();
    let mut tx = catalog.begin(Priority::Intake).await.unwrap();
    let size = built.bytes.len() as u64;
    manifest::add_segment(&mut tx, &name, 2, "test", NOW, size, &built.parts).await.unwrap();
    tx.commit().await.unwrap();
    name
}

async fn rows(catalog: &muster_catalog::Catalog) -> u64 {
    let all = manifest::PartFilter::default();
    let parts = manifest::parts_of(catalog, OrgId::DEFAULT, "t", &all).await.unwrap();
    parts.iter().map(|part| part.info.row_count).sum()
}

#[tokio::test]
async fn deleted_rows_go_once_nothing_is_held() {
    for temp in TempCatalog::both().await.unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(&format!("file://{}", dir.path().display())).unwrap();
        let catalog = &temp.catalog;
        let hold = NOW.plus(std::time::Duration::from_secs(60));
        for (no, hold, deleted) in
            [(1, None, Some(Timestamp(5))), (2, None, None), (3, Some(hold), None)]
        {
            let values = args![no, hold, deleted];
            catalog.execute(Priority::Api, &HUNT, values).await.unwrap();
            segment(&archive, catalog, no).await;
        }
        let mut purge = Purge::default();
        let options = muster_archive::compaction::CompactOptions::default();
        assert_eq!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap(), 0);
        assert_eq!(rows(catalog).await, 6, "a hold keeps everything");

        catalog.execute(Priority::Api, &END_HOLD, args![3]).await.unwrap();
        assert!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap() > 0);
        assert_eq!(rows(catalog).await, 4, "the rows of hunt 1 are gone");

        let mut again = Purge::default();
        assert_eq!(again.step(catalog, &archive, &options, 100, NOW).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_walk_that_could_not_read_everything_is_done_again_later() {
    for temp in TempCatalog::both().await.unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(&format!("file://{}", dir.path().display())).unwrap();
        let catalog = &temp.catalog;
        let values = args![1, None::<Timestamp>, Some(Timestamp(5))];
        catalog.execute(Priority::Api, &HUNT, values).await.unwrap();
        let path = dir.path().join(segment(&archive, catalog, 1).await);
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        let mut purge = Purge::default();
        let options = muster_archive::compaction::CompactOptions::default();
        assert!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap() > 0);
        assert_eq!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap(), 0);

        std::fs::rename(&aside, &path).unwrap();
        let soon = NOW.plus(std::time::Duration::from_secs(59 * 60));
        assert_eq!(purge.step(catalog, &archive, &options, 100, soon).await.unwrap(), 0);
        let later = NOW.plus(std::time::Duration::from_secs(60 * 60));
        assert!(purge.step(catalog, &archive, &options, 100, later).await.unwrap() > 0);
        assert_eq!(rows(catalog).await, 0);
        assert_eq!(purge.step(catalog, &archive, &options, 100, later).await.unwrap(), 0);
    }
}

/// Clocks of instances differ, and what is committed later may have the earlier time.
#[tokio::test]
async fn what_was_deleted_by_an_earlier_time_is_walked_for_as_well() {
    for temp in TempCatalog::both().await.unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(&format!("file://{}", dir.path().display())).unwrap();
        let catalog = &temp.catalog;
        let (mut purge, options) = (Purge::default(), Default::default());
        for (no, deleted) in [(1, NOW.plus(std::time::Duration::from_secs(600))), (2, NOW)] {
            let values = args![no, None::<Timestamp>, Some(deleted)];
            catalog.execute(Priority::Api, &HUNT, values).await.unwrap();
            segment(&archive, catalog, no).await;
            assert!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap() > 0);
            assert_eq!(rows(catalog).await, 0, "the rows of hunt {no} are gone");
            assert_eq!(purge.step(catalog, &archive, &options, 100, NOW).await.unwrap(), 0);
        }
    }
}
