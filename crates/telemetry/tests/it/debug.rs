//! Two instances, one of which is asleep: one archive from both, by way of catalog and archive.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use muster_archive::Archive;
use muster_bus::Bus;
use muster_bus::local::LocalBus;
use muster_catalog::{Catalog, Priority};
use muster_telemetry::debug::{self, Assembled, NewRequest, Section, Service, Sources};
use muster_telemetry::ring::LogRing;
use muster_testkit::TempCatalog;
use muster_types::{Clock, InstanceId, SystemClock, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn sources(id: InstanceId, name: &str) -> Sources {
    let logs = LogRing::default();
    logs.push(b"connected to postgres://muster:hunter2@db/muster");
    let fine: Section = Box::new(|| Box::pin(async { Ok(b"up 1\n".to_vec()) }));
    let broken: Section = Box::new(|| Box::pin(async { Err("no token=hunter2 here".into()) }));
    let hangs: Section = Box::new(|| Box::pin(std::future::pending()));
    Sources {
        instance: id,
        name: name.into(),
        version: "1".into(),
        about: json!({"catalog_url": "postgres://muster:hunter2@db/muster", "token": "hunter2"}),
        configuration: "catalog:\n  url: postgres://muster:hunter2@db/muster\n".into(),
        logs,
        sections: vec![("metrics.txt", fine), ("broken.txt", broken), ("hangs.txt", hangs)],
    }
}

async fn assembled(catalog: &Catalog, no: i64) -> Assembled {
    let request = debug::get(catalog, no).await.unwrap().unwrap();
    Assembled { request, parts: debug::parts(catalog, no).await.unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_answers_is_in_it_and_whoever_does_not_is_named() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let archive = Archive::open(&format!("file://{}/archive", temp.dir.path().display())).unwrap();
    let bus: Arc<dyn Bus> = LocalBus::new(16);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let [awake, asleep] = [1, 2].map(|n| InstanceId(Uuid::from_u128(n)));
    let service = Service::new(
        temp.catalog.clone(),
        archive.clone(),
        bus,
        clock.clone(),
        sources(awake, "awake/../x"),
    );
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run(shutdown.clone()));

    let mut tx = temp.catalog.begin(Priority::Api).await.unwrap();
    let new = NewRequest {
        requested_by: "ana".into(),
        seconds: 0,
        wanted: vec![(awake, "awake/../x".into()), (asleep, "asleep".into())],
    };
    let request = debug::create(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    let answered = async {
        while assembled(&temp.catalog, request.no).await.parts.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("a part in time");
    shutdown.cancel();
    running.await.unwrap();

    let whole = assembled(&temp.catalog, request.no).await;
    assert!(!whole.is_complete());
    assert_eq!(whole.missing(), [(asleep, "asleep")]);
    assert_eq!(whole.parts[0].problem, None);
    let bytes: Vec<_> =
        debug::assemble(archive.clone(), whole, Timestamp(0)).try_collect().await.unwrap();
    let bytes = bytes.concat();
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(&*bytes));
    let mut files = std::collections::BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{path} holds a secret");
        files.insert(path, content);
    }
    let names: Vec<_> = files.keys().map(|name| name.rsplit('/').next().unwrap()).collect();
    for wanted in ["MISSING.txt", "summary.json", "about.json", "log.txt", "metrics.txt"] {
        assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
    }
    assert!(files.keys().all(|name| !name.contains("..") || name.contains("awake_.._x")));
    let problems = files.iter().find(|(name, _)| name.ends_with("problems.txt")).unwrap().1;
    let problems = String::from_utf8_lossy(problems).into_owned();
    assert!(
        problems.contains("hangs.txt: no answer") && problems.contains("token=***"),
        "{problems}"
    );

    // A day later nothing of it is left.
    let tidy = debug::Tidy::new(temp.catalog.clone(), archive.clone(), clock);
    tidy.run(debug::KEPT).await.unwrap();
    assert_eq!(archive.list("debug/v1").await.unwrap().len(), 1, "it is young");
    tidy.run(Duration::ZERO).await.unwrap();
    assert!(debug::get(&temp.catalog, request.no).await.unwrap().is_none());
    assert!(archive.list("debug/v1").await.unwrap().is_empty());
}
