//! Blocks in result segments become files, on both databases.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use muster_archive::Archive;
use muster_archive::manifest::{self, PartFilter, parts_of};
use muster_catalog::{Priority, args, check};
use muster_cluster::Held;
use muster_cluster::secrets::Key;
use muster_results::{Cell, RowClass, RowMeta, SegmentBuilder, TableSpec};
use muster_testkit::TempCatalog;
use muster_types::{
    Access, AgentKind, AgentNo, AgentSet, Clock, ColumnDecl, ColumnType, HuntNo, OrgId, Pos,
    TestClock, Timestamp, UploadNo,
};
use muster_uploads::{
    BLOCKS_TABLE, Error, Filter, Finisher, NewUpload, Options, Session, Standing, State, Uploads,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const AGENT: AgentNo = AgentNo(70);
const START: Timestamp = Timestamp(1_700_000_000_000_000);

static TABLE: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    let column = |name: &str, kind| ColumnDecl { name: name.to_owned(), kind };
    let columns = vec![
        column("upload", ColumnType::Int),
        column("block", ColumnType::Int),
        column("data", ColumnType::Bytes),
    ];
    let (name, class) = (BLOCKS_TABLE.to_owned(), RowClass::System);
    Arc::new(TableSpec { name, class, columns, open: false })
});

muster_catalog::statements! {
    DELETED_AGENT = "
        INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, key_issued_at,
             last_seen, last_address, deleted_at, change)
        VALUES ($1, $2, 1, 'osquery', 'x', 'retired', '', '', '', '', '', '', '[]', 0, '', 0, 0,
            '', $3, 1)";
}

struct Site {
    temp: TempCatalog,
    archive: Archive,
    clock: Arc<TestClock>,
    uploads: Uploads,
    options: Options,
}

impl Site {
    async fn new(temp: TempCatalog) -> Self {
        let folder = temp.dir.path().canonicalize().unwrap();
        let archive = Archive::open(&format!("file://{}/archive", folder.display())).unwrap();
        let options =
            Options { piece_bytes: 10, held_bytes_max: 12, open_max: 4, ..Options::default() };
        let key = Key::new(&[7; 32]);
        let uploads = Uploads::open(temp.catalog.clone(), archive.clone(), &key, options.clone())
            .await
            .unwrap();
        Self { temp, archive, clock: Arc::new(TestClock::new(START)), uploads, options }
    }

    fn finisher(&self) -> Finisher {
        self.finisher_with(self.options.clone())
    }

    fn finisher_with(&self, options: Options) -> Finisher {
        let held = Held {
            epochs: BTreeMap::from([(0, muster_types::Epoch(1))]),
            valid_until: tokio::time::Instant::now() + Duration::from_secs(600),
        };
        let (catalog, archive) = (self.temp.catalog.clone(), self.archive.clone());
        let leases = watch::channel(held).1;
        Finisher::new(catalog, archive, self.clock.clone(), options, leases)
    }

    /// Begins an upload of so many blocks of 8 bytes.
    async fn begin(&self, name: &str, block_count: u32) -> UploadNo {
        let session = self.begun(name, block_count).await.unwrap();
        self.uploads.session(&session).unwrap().upload
    }

    async fn begun(&self, name: &str, block_count: u32) -> Result<String, Error> {
        let new = NewUpload {
            kind: "carve",
            external_id: name.to_owned(),
            block_count,
            block_size: 8,
            byte_count: u64::from(block_count) * 8,
        };
        self.uploads.begin(OrgId::DEFAULT, AGENT, &new, self.clock.now()).await
    }

    /// One flush of a worker with these blocks, the last of which may make an upload whole.
    async fn flush(&self, blocks: &[(UploadNo, u32)], whole: Option<UploadNo>) {
        let mut builder = SegmentBuilder::new();
        for (upload, block) in blocks {
            let meta = RowMeta {
                org: OrgId::DEFAULT,
                agent: AGENT,
                agent_kind: AgentKind::Osquery,
                hunt: HuntNo(0),
                attempt: 0,
                late: false,
                received_at: self.clock.now(),
                endpoint_time: None,
                shard: AGENT.shard(),
                pos: Pos(1),
            };
            let row = [
                ("upload", Cell::Int(upload.0 as i64)),
                ("block", Cell::Int(i64::from(*block))),
                ("data", Cell::Bytes(&data(*upload, *block))),
            ];
            builder.append_row(&TABLE, &meta, &row);
        }
        let built = builder.finish().unwrap();
        let now = self.clock.now();
        let object = muster_archive::segment_name(now.day(), "test");
        let byte_count = built.bytes.len() as u64;
        self.archive.put_new(&object, built.bytes).await.unwrap();
        let mut tx = self.temp.catalog.begin(Priority::Intake).await.unwrap();
        manifest::add_segment(&mut tx, &object, 0, "test", now, byte_count, &built.parts)
            .await
            .unwrap();
        if let Some(upload) = whole {
            muster_uploads::received(&mut tx, upload, AGENT, 1).await.unwrap();
        }
        tx.commit().await.unwrap();
        self.clock.advance(Duration::from_secs(1));
    }

    async fn state(&self, upload: UploadNo) -> Option<State> {
        let access = Access::all(OrgId::DEFAULT);
        self.uploads.get(&access, upload).await.unwrap().map(|upload| upload.state)
    }

    async fn content(&self, upload: UploadNo) -> Vec<u8> {
        let access = Access::all(OrgId::DEFAULT);
        let upload = self.uploads.get(&access, upload).await.unwrap().unwrap();
        let pieces: Vec<Result<Bytes, Error>> =
            self.uploads.content(&upload).unwrap().collect().await;
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        assert_eq!(upload.byte_count, bytes.len() as u64);
        assert_eq!(upload.sha256, Some(Sha256::digest(&bytes).into()));
        bytes
    }

    async fn block_rows(&self) -> u64 {
        let all = PartFilter::default();
        let parts = parts_of(&self.temp.catalog, OrgId::DEFAULT, BLOCKS_TABLE, &all).await.unwrap();
        parts.iter().map(|part| part.info.row_count).sum()
    }
}

/// 8 bytes of a block.
fn data(upload: UploadNo, block: u32) -> Vec<u8> {
    format!("{:03}:{block:03}.", upload.0).into_bytes()
}

fn whole(upload: UploadNo, blocks: u32) -> Vec<u8> {
    (0..blocks).flat_map(|block| data(upload, block)).collect()
}

#[tokio::test]
async fn blocks_of_several_flushes_in_any_order_become_one_file() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let (one, two) = (site.begin("one", 9).await, site.begin("two", 2).await);
        // More blocks are out of order than are held back, so parts are read again.
        site.flush(&[(one, 8), (one, 7), (two, 0), (one, 6)], None).await;
        site.flush(&[(one, 0), (one, 2), (two, 1)], Some(two)).await;
        site.flush(&[(one, 5), (one, 4), (one, 3), (one, 1)], Some(one)).await;
        assert_eq!(site.state(one).await, Some(State::Received));
        assert_eq!(site.finisher().round(&mut BTreeMap::new()).await.unwrap(), 2);
        assert_eq!(site.content(one).await, whole(one, 9));
        assert_eq!(site.content(two).await, whole(two, 2));
        assert_eq!(site.finisher().round(&mut BTreeMap::new()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn beginning_again_continues_and_another_shape_is_refused() {
    let site = Site::new(TempCatalog::sqlite().await.unwrap()).await;
    let one = site.begin("one", 3).await;
    assert_eq!(site.begin("one", 3).await, one);
    assert!(matches!(site.begun("one", 4).await, Err(Error::Blocks(_))));
    for name in ["two", "three", "four"] {
        site.begin(name, 1).await;
    }
    assert!(matches!(site.begun("five", 1).await, Err(Error::TooMany(4))));
    assert!(matches!(site.begun("six", u32::MAX).await, Err(Error::TooLarge { .. })));
}

/// However many begin at once, here and elsewhere: none is forgotten for a new one.
#[tokio::test]
async fn no_more_are_open_at_once_than_may_be() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let names: Vec<String> = (0..17).map(|n| format!("carve-{n}")).collect();
        let begun = futures_util::future::join_all(names.iter().map(|name| site.begun(name, 2)));
        let begun = begun.await;
        let refused = begun.iter().filter(|one| matches!(one, Err(Error::TooMany(4)))).count();
        let open: Vec<&String> = begun.iter().filter_map(|one| one.as_ref().ok()).collect();
        assert_eq!((open.len(), refused), (4, 13), "{begun:?}");
        // One is whole: another may come. Those that are open are continued as before.
        let first = site.uploads.session(open[0]).unwrap().upload;
        site.flush(&[(first, 0), (first, 1)], Some(first)).await;
        site.begin("one more", 1).await;
        let again = site.begun(&names[begun.iter().rposition(Result::is_ok).unwrap()], 2).await;
        assert_eq!(&again.unwrap(), open[3]);
    }
}

#[tokio::test]
async fn what_goes_on_is_given_up_later_and_its_blocks_are_of_no_use_then() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let session = |text: &str| site.uploads.session(text).unwrap();
        let slow = session(&site.begun("slow", 99).await.unwrap());
        let left = session(&site.begun("left", 2).await.unwrap());
        let standing =
            async |session: &Session| site.uploads.standing(session, site.clock.now()).await;
        let hour = Duration::from_secs(3600);
        for _ in 0..30 {
            assert_eq!(standing(&slow).await, Standing::Open);
            site.clock.advance(hour);
            site.finisher().tidy(site.clock.now()).await.unwrap();
        }
        assert_eq!(standing(&left).await, Standing::Over);
        assert!(matches!(site.begun("left", 2).await, Err(Error::Over(_))));
        let access = Access::all(OrgId::DEFAULT);
        let given_up = site.uploads.get(&access, left.upload).await.unwrap().unwrap();
        assert_eq!(given_up.state, State::Failed);
        assert!(given_up.message.ends_with("and none for 24 h"), "{}", given_up.message);
        // Nobody holds the blocks of all for ever.
        for _ in 30..7 * 24 + 2 {
            standing(&slow).await;
            site.clock.advance(hour);
            site.finisher().tidy(site.clock.now()).await.unwrap();
        }
        assert_eq!(standing(&slow).await, Standing::Over);

        let done = session(&site.begun("done", 1).await.unwrap());
        assert_eq!(standing(&done).await, Standing::Open);
        site.flush(&[(done.upload, 0)], Some(done.upload)).await;
        site.clock.advance(site.options.standing_for);
        assert_eq!(standing(&done).await, Standing::Whole);
        site.clock.advance(site.options.keep_for);
        site.finisher().round(&mut BTreeMap::new()).await.unwrap();
        site.finisher().tidy(site.clock.now()).await.unwrap();
        assert_eq!(standing(&done).await, Standing::Over);
    }
}

#[tokio::test]
async fn an_upload_whose_blocks_are_gone_fails_and_says_which() {
    let site = Site::new(TempCatalog::sqlite().await.unwrap()).await;
    let one = site.begin("one", 3).await;
    site.flush(&[(one, 0), (one, 2)], Some(one)).await;
    site.finisher().round(&mut BTreeMap::new()).await.unwrap();
    let upload = site.uploads.get(&Access::all(OrgId::DEFAULT), one).await.unwrap().unwrap();
    assert_eq!(upload.state, State::Failed);
    assert!(upload.message.contains("block 1 of 3 is missing"), "{}", upload.message);
    assert!(matches!(site.uploads.content(&upload), Err(Error::NotStored(State::Failed))));
}

#[tokio::test]
async fn what_never_comes_is_given_up_and_what_is_old_is_removed() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let (never, stored) = (site.begin("never", 2).await, site.begin("stored", 1).await);
        site.flush(&[(never, 0), (stored, 0)], Some(stored)).await;
        site.finisher().round(&mut BTreeMap::new()).await.unwrap();
        site.finisher().tidy(site.clock.now()).await.unwrap();
        assert_eq!(site.state(never).await, Some(State::Open));
        assert_eq!(site.block_rows().await, 2, "an open upload needs them");

        site.clock.advance(site.options.open_for + Duration::from_secs(2 * 3600));
        site.finisher().tidy(site.clock.now()).await.unwrap();
        assert_eq!(site.state(never).await, Some(State::Failed));
        assert_eq!(site.block_rows().await, 0);
        assert_eq!(site.content(stored).await, whole(stored, 1));

        site.clock.advance(site.options.keep_for);
        site.finisher().tidy(site.clock.now()).await.unwrap();
        assert_eq!((site.state(never).await, site.state(stored).await), (None, None));
        let retired = muster_archive::sweep::sweep_once(
            &site.temp.catalog,
            &site.archive,
            site.clock.now().plus(site.options.retire_grace * 2),
        );
        assert_eq!(retired.await.unwrap(), 2, "the segment and the file");
        assert!(site.archive.list("upload").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn uploads_go_with_their_agent() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let (open, stored) = (site.begin("open", 2).await, site.begin("stored", 1).await);
        site.flush(&[(stored, 0)], Some(stored)).await;
        site.finisher().round(&mut BTreeMap::new()).await.unwrap();
        let agent = |deleted_at: i64| args![i64::from(AGENT.0), OrgId::DEFAULT, deleted_at];
        let catalog = &site.temp.catalog;
        catalog.execute(Priority::Api, &DELETED_AGENT, agent(START.0)).await.unwrap();
        site.finisher().tidy(site.clock.now()).await.unwrap();
        assert_eq!((site.state(open).await, site.state(stored).await), (None, None));
        let later = site.clock.now().plus(site.options.retire_grace * 2);
        muster_archive::sweep::sweep_once(catalog, &site.archive, later).await.unwrap();
        assert!(site.archive.list("upload").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see() {
    let site = Site::new(TempCatalog::sqlite().await.unwrap()).await;
    for name in ["a", "b", "c"] {
        site.begin(name, 1).await;
    }
    let all = Access::all(OrgId::DEFAULT);
    let filter = Filter { limit: 2, ..Filter::default() };
    let (page, next) = site.uploads.list(&all, &filter).await.unwrap();
    let names: Vec<_> = page.iter().map(|upload| &*upload.external_id).collect();
    assert_eq!((names, next.is_some()), (vec!["c", "b"], true));
    let filter = Filter { below: next, ..filter };
    let (page, next) = site.uploads.list(&all, &filter).await.unwrap();
    assert_eq!((page.len(), next), (1, None));
    let filter = Filter { state: Some(State::Stored), limit: 2, ..Filter::default() };
    assert!(site.uploads.list(&all, &filter).await.unwrap().0.is_empty());

    let nobody = Access { org: OrgId::DEFAULT, agents: Some(AgentSet::default()) };
    let filter = Filter { limit: 2, ..Filter::default() };
    assert!(site.uploads.list(&nobody, &filter).await.unwrap().0.is_empty());
    assert_eq!(site.uploads.get(&nobody, page[0].no).await.unwrap(), None);
    let other = Access::all(OrgId(2));
    assert_eq!(site.uploads.get(&other, page[0].no).await.unwrap(), None);
}

#[tokio::test]
async fn statements_prepare_and_seek_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_uploads::statements()).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_clock_that_is_days_ahead_gives_up_and_removes_nothing() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(temp).await;
        let now = site.temp.catalog.now().await.unwrap();
        let old = site.begin("old", 2).await;
        site.clock.advance(now.since(START));
        let (open, stored) = (site.begin("open", 2).await, site.begin("stored", 1).await);
        site.flush(&[(open, 0), (stored, 0)], Some(stored)).await;
        site.finisher().round(&mut BTreeMap::new()).await.unwrap();
        let piece = format!("upload/v1/{}/999-x-0", muster_archive::day_name(now.day()));
        site.archive.put_new(&piece, Bytes::from_static(b"x")).await.unwrap();

        let day = Duration::from_secs(24 * 3600);
        site.clock.advance(2 * day);
        let every = Duration::from_millis(20);
        let options = Options { every, open_for: day, keep_for: day, ..site.options.clone() };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(site.finisher_with(options).run(shutdown.clone()));
        let mut waited = 0;
        while site.state(old).await == Some(State::Open) {
            waited += 1;
            assert!(waited < 600, "it is not tidied up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It is at the end of a round by the time another begins.
        let later = site.begin("later", 1).await;
        site.flush(&[(later, 0)], Some(later)).await;
        while site.state(later).await != Some(State::Stored) {
            waited += 1;
            assert!(waited < 600, "it is not stored");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(site.state(open).await, Some(State::Open));
        assert_eq!(site.content(stored).await, whole(stored, 1));
        assert!(site.archive.size(&piece).await.unwrap().is_some(), "its upload may follow");
        shutdown.cancel();
        running.await.unwrap();
    }
}
