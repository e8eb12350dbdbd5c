//! A small organisation with results, and ways to ask about it.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use futures_util::TryStreamExt;
use muster_archive::{Archive, manifest, segment_name};
use muster_catalog::{Priority, args};
use muster_endpoints::{
    AgentReport, Enrol, Snapshot, add_members, create_label, delete_endpoint, enrol,
};
use muster_hunts::{Definition, HuntKind, Limits, NewHunt, ShardProgress};
use muster_query::{Engine, Error};
use muster_results::{Cell, RowClass, RowFormat, RowMeta, SegmentBuilder, TableSpec};
use muster_testkit::{S3, TempCatalog};
use muster_types::{
    Access, AgentKind, AgentNo, AgentSet, ArchiveAccess, ColumnDecl, ColumnType, EndpointNo,
    HuntNo, OrgId, Outcome, Pos, ScopeSpec, SqlLimits, SqlRequest, Timestamp,
};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
pub const ORG: OrgId = OrgId::DEFAULT;

muster_catalog::statements! {
    PUT_WAVE = "INSERT INTO hunt_wave (hunt_no, wave, agents, agent_count, committed_at, change)
        VALUES ($1, $2, $3, $4, $5, $6)";
    COUNT_RECRUITED = "UPDATE hunt SET recruited_total = recruited_total + $2 WHERE no = $1";
    PUT_PROGRESS = "INSERT INTO hunt_shard (hunt_no, shard, progress, row_count, byte_count, change)
        VALUES ($1, $2, $3, 0, 0, $4)
        ON CONFLICT (hunt_no, shard) DO UPDATE
        SET progress = excluded.progress, change = excluded.change";
    DAMAGE = "UPDATE hunt_wave SET agents = $2 WHERE hunt_no = $1";
    END_HUNT = "UPDATE hunt SET state = $2, ended_at = $3, change = $4 WHERE no = $1";
}

/// Endpoints by number: two of label `dev`, one of label `board`, one that was deleted.
pub const NAMES: [&str; 4] = ["dev-one", "dev-two", "board-three", "gone-four"];

pub struct World {
    pub temp: TempCatalog,
    pub archive: Archive,
    pub archive_url: String,
    pub archive_access: ArchiveAccess,
}

pub fn spec(name: &str, columns: &[(&str, ColumnType)]) -> Arc<TableSpec> {
    let columns =
        columns.iter().map(|(name, kind)| ColumnDecl { name: (*name).to_owned(), kind: *kind });
    let columns = columns.collect();
    Arc::new(TableSpec { name: name.to_owned(), class: RowClass::Collected, columns, open: false })
}

pub fn processes() -> Arc<TableSpec> {
    spec(
        "linux_processes",
        &[("pid", ColumnType::Int), ("name", ColumnType::Text), ("cmdline", ColumnType::Text)],
    )
}

pub fn meta(agent: u32, hunt: u64, second: i64) -> RowMeta {
    RowMeta {
        org: ORG,
        agent: AgentNo(agent),
        agent_kind: AgentKind::Native,
        hunt: HuntNo(hunt),
        attempt: 1,
        late: false,
        received_at: Timestamp(NOW.0 + second * 1_000_000),
        endpoint_time: None,
        shard: AgentNo(agent).shard(),
        pos: Pos(u64::from(agent) * 100),
    }
}

impl World {
    pub async fn empty() -> Self {
        Self::over(TempCatalog::sqlite().await.unwrap()).await
    }

    pub async fn over(temp: TempCatalog) -> Self {
        let archive_url = format!("file://{}", temp.dir.path().join("archive").display());
        Self::at(temp, archive_url, ArchiveAccess::default())
    }

    /// With its archive elsewhere.
    pub fn at(temp: TempCatalog, archive_url: String, archive_access: ArchiveAccess) -> Self {
        let archive = Archive::open_with(&archive_url, &archive_access).unwrap();
        Self { temp, archive, archive_url, archive_access }
    }

    /// The same with its archive in a bucket.
    pub async fn on_s3(server: &S3) -> Self {
        let access = ArchiveAccess {
            endpoint: Some(server.endpoint()),
            access_key_id: Some(S3::ACCESS_KEY.to_owned()),
            secret_access_key: Some(S3::SECRET_KEY.to_owned()),
            allow_http: true,
            ..ArchiveAccess::default()
        };
        let temp = TempCatalog::sqlite().await.unwrap();
        Self::at(temp, server.url("sql"), access).fill().await
    }

    /// The organisation with results: hunt 1 is an artifact's, 2 an ad-hoc query, 3 a deleted one.
    pub async fn new() -> Self {
        Self::filled(TempCatalog::sqlite().await.unwrap()).await
    }

    /// The same in a catalog of choice.
    pub async fn filled(temp: TempCatalog) -> Self {
        Self::over(temp).await.fill().await
    }

    async fn fill(self) -> Self {
        let world = self;
        world.fleet().await;
        for artifact in ["linux.processes", "", "linux.processes"] {
            world.hunt(artifact).await;
        }
        world.results().await;
        world
    }

    pub async fn fleet(&self) {
        let catalog = &self.temp.catalog;
        for (n, name) in (1..).zip(NAMES) {
            let made = enrol(catalog, &agent(n, name), NOW).await.unwrap();
            assert_eq!((made.agent, made.endpoint), (AgentNo(n), EndpointNo(n)));
        }
        for (label, members) in [("dev", &[1, 2][..]), ("board", &[3])] {
            create_label(catalog, ORG, label, "", "ana", NOW).await.unwrap();
            let members: Vec<_> = members.iter().copied().map(EndpointNo).collect();
            add_members(catalog, ORG, label, &members, "ana", NOW).await.unwrap();
        }
        delete_endpoint(catalog, ORG, EndpointNo(4), NOW).await.unwrap();
    }

    pub async fn hunt(&self, artifact: &str) -> HuntNo {
        let mut tx = self.temp.catalog.begin(Priority::Api).await.unwrap();
        let new = NewHunt {
            org: ORG,
            kind: HuntKind::Hunt,
            title: "look".into(),
            artifact: artifact.into(),
            definition: Definition::ad_hoc("SELECT 1"),
            scope: ScopeSpec::all(),
            caller_scope: vec![ScopeSpec::all()],
            limits: Limits::default(),
            requested_by: "ana".into(),
            reason: String::new(),
            incident: None,
            expires_in: std::time::Duration::from_secs(3_600),
            needs_approval: false,
        };
        let no = muster_hunts::create(&mut tx, &new, &AgentSet::default()).await.unwrap().no;
        tx.commit().await.unwrap();
        no
    }

    async fn results(&self) {
        let catalog = &self.temp.catalog;
        let mut tx = catalog.begin(Priority::Api).await.unwrap();
        muster_hunts::stop(&mut tx, ORG, HuntNo(3)).await.unwrap();
        muster_hunts::delete(&mut tx, ORG, HuntNo(3)).await.unwrap();
        tx.commit().await.unwrap();
        let mut segment = SegmentBuilder::new();
        for agent in 1..=4_u32 {
            let name = NAMES[agent as usize - 1];
            for hunt in [1, 3] {
                let rows: Vec<_> = (1..=10)
                    .map(|pid| serde_json::json!({"pid": pid, "name": format!("p{pid}"), "cmdline": format!("/bin/p{pid} --on {name} --hunt {hunt}")}))
                    .collect();
                let json = serde_json::to_vec(&rows).unwrap();
                let meta = meta(agent, hunt, i64::from(agent));
                segment.append_json(&processes(), &meta, RowFormat::Array, &json).unwrap();
            }
            let json = format!(r#"[{{"host":"{name}","n":{agent}}}]"#);
            let adhoc = spec("hunt_2", &[("host", ColumnType::Text), ("n", ColumnType::Int)]);
            segment
                .append_json(&adhoc, &meta(agent, 2, 9), RowFormat::Array, json.as_bytes())
                .unwrap();
            let ends = spec(
                "collections",
                &[
                    ("outcome", ColumnType::Text),
                    ("rows", ColumnType::Int),
                    ("message", ColumnType::Text),
                ],
            );
            let row = [
                ("outcome", Cell::Text("rows")),
                ("rows", Cell::Int(10)),
                ("message", Cell::Text(name)),
            ];
            segment.append_row(&ends, &meta(agent, 1, 10), &row);
            let errors =
                spec("errors", &[("source", ColumnType::Text), ("message", ColumnType::Text)]);
            let row = [("source", Cell::Text("rows")), ("message", Cell::Text(name))];
            segment.append_row(&errors, &meta(agent, 1, 10), &row);
            let log =
                spec("agent_log", &[("level", ColumnType::Text), ("message", ColumnType::Text)]);
            let row = [("level", Cell::Text("info")), ("message", Cell::Text(name))];
            segment.append_row(&log, &meta(agent, 0, 10), &row);
        }
        self.publish(segment).await;
        // All have answered hunt 1; in hunt 2 two tasks run and two wait.
        self.recruit(HuntNo(1), 1, &[1, 2, 3, 4]).await;
        self.recruit(HuntNo(2), 1, &[1, 2]).await;
        self.recruit(HuntNo(2), 2, &[2, 3, 4]).await;
        for agent in 1..=4 {
            self.progress(HuntNo(1), agent, Some(Outcome::Rows)).await;
        }
        for agent in [1, 3] {
            self.progress(HuntNo(2), agent, None).await;
        }
    }

    /// As the dispatcher recruits.
    pub async fn recruit(&self, hunt: HuntNo, wave: i64, agents: &[u32]) {
        let agents: AgentSet = agents.iter().copied().map(AgentNo).collect();
        let mut tx = self.temp.catalog.begin(Priority::Api).await.unwrap();
        let change = tx.bump("wave").await.unwrap();
        let at = Timestamp(NOW.0 + wave);
        let values = args![hunt, wave, agents.to_bytes(), agents.len(), at, change];
        tx.execute(&PUT_WAVE, values).await.unwrap();
        tx.execute(&COUNT_RECRUITED, args![hunt, agents.len()]).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// What the fold knows of one agent: delivered, and the end if there is one. Of its shard, all.
    pub async fn progress(&self, hunt: HuntNo, agent: u32, end: Option<Outcome>) {
        let agent = AgentNo(agent);
        let mut progress = ShardProgress::new();
        progress.deliver(agent);
        if let Some(end) = end {
            assert!(progress.end(agent, end));
        }
        let mut tx = self.temp.catalog.begin(Priority::Intake).await.unwrap();
        let change = tx.bump("progress").await.unwrap();
        let values = args![hunt, agent.shard(), progress.encode(), change];
        tx.execute(&PUT_PROGRESS, values).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// As the dispatcher ends hunts.
    pub async fn end(&self, hunt: HuntNo, state: &str) {
        let mut tx = self.temp.catalog.begin(Priority::Api).await.unwrap();
        let change = tx.bump("hunt").await.unwrap();
        // Long enough ago for all that was on its way to be known, and for what ran to be given up.
        let at = NOW.minus(std::time::Duration::from_secs(24 * 3600));
        tx.execute(&END_HUNT, args![hunt, state, at, change]).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Makes its waves unreadable.
    pub async fn damage(&self, hunt: HuntNo) {
        let values = args![hunt, vec![7_u8]];
        self.temp.catalog.execute(Priority::Api, &DAMAGE, values).await.unwrap();
    }

    /// Puts a segment into archive and manifest.
    pub async fn publish(&self, segment: SegmentBuilder) {
        let built = segment.finish().unwrap();
        let object = segment_name(20_000, "w");
        let bytes = built.bytes.len() as u64;
        self.archive.put_new(&object, built.bytes).await.unwrap();
        let mut tx = self.temp.catalog.begin(Priority::Intake).await.unwrap();
        manifest::add_segment(&mut tx, &object, 0, "w", NOW, bytes, &built.parts).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn labelled(&self, label: &str) -> Access {
        let snapshot = Snapshot::read(&self.temp.catalog).await.unwrap();
        let members = &snapshot.label(ORG, label).unwrap().members;
        Access { org: ORG, agents: Some(snapshot.agents_in(members)) }
    }

    pub fn request(&self, access: &Access, sql: &str) -> SqlRequest {
        SqlRequest {
            sql: sql.to_owned(),
            access: access.clone(),
            limits: SqlLimits { memory_bytes: 1 << 30, time_ms: 10_000, rows: 100_000 },
            catalog_url: self.temp.url.clone(),
            archive_url: self.archive_url.clone(),
            archive_access: self.archive_access.clone(),
            now: NOW,
            threads: 2,
        }
    }

    pub async fn ask(&self, access: &Access, sql: &str) -> Result<String, Error> {
        let engine = Engine::open(&self.request(access, sql)).await?;
        let batches: Vec<_> = engine.run().await?.try_collect().await?;
        Ok(pretty_format_batches(&batches).unwrap().to_string())
    }

    /// The answer to somebody who sees everything.
    pub async fn all(&self, sql: &str) -> String {
        self.ask(&Access::all(ORG), sql).await.unwrap_or_else(|e| panic!("{sql}: {}", e.chain()))
    }

    /// The one value of an answer, as somebody who sees everything gets it.
    pub async fn one(&self, sql: &str) -> String {
        one(&self.all(sql).await)
    }

    pub async fn refusal(&self, access: &Access, sql: &str) -> String {
        let error = self.ask(access, sql).await.expect_err(sql);
        assert!(error.is_asker(), "{sql}: {}", error.chain());
        error.to_string()
    }
}

/// The first value of a printed table.
pub fn one(table: &str) -> String {
    let row = table.lines().nth(3).unwrap_or_else(|| panic!("no row in {table}"));
    row.trim_matches(['|', ' ']).to_owned()
}

fn agent(n: u32, name: &str) -> Enrol {
    Enrol {
        org: ORG,
        kind: AgentKind::Native,
        external_id: format!("{n:064x}"),
        public_key: Some(vec![7; 32]),
        machine: Some(format!("machine-{n}")),
        report: AgentReport {
            hostname: name.to_owned(),
            platform: "linux".into(),
            os_name: "Debian GNU/Linux".into(),
            os_version: "13".into(),
            arch: "x86_64".into(),
            version: "0.1.0".into(),
            capabilities: "sql".into(),
            address: format!("192.0.2.{n}"),
        },
        secret: None,
    }
}
