//! A debug archive of two instances on PostgreSQL and a shared folder, asked of one; without a secret.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use muster_testkit::{Cluster, ClusterOptions, Postgres, Stores};

use crate::support::Relays;

const PLANTED: &str = "hunter2-planted";

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(path).unwrap();
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(file));
    let mut found = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        found.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    found
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn two_instances_answer_through_one_and_no_secret_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::own().unwrap();
    // It trusts everybody on loopback, so any password will do.
    let catalog = postgres.tcp_database().unwrap();
    let catalog = catalog.replace("postgres@", &format!("postgres:{PLANTED}-db@"));
    let stores = Stores::default()
        .key("catalog", "url", &catalog)
        .env("MUSTER_TEST_SECRET", &format!("{PLANTED}-environment"));
    let (_relays, stores) = Relays::start(dir.path(), stores).unwrap();
    let cluster = Cluster::start(&ClusterOptions::new(stores)).unwrap();
    let access = cluster.access().unwrap();
    let (secret, token) = (access.secret().unwrap(), access.token.clone());

    let whole = dir.path().join("whole.tar.gz");
    let to = whole.display().to_string();
    cluster.instance(0).ok(&["debug", "archive", "--all", "--seconds", "1", "--to", &to]).unwrap();
    let found = files(&whole);
    let folders: std::collections::BTreeSet<&str> =
        found.keys().filter_map(|name| name.split_once('/')).map(|(folder, _)| folder).collect();
    assert_eq!(folders.len(), 3, "{folders:?}");
    for wanted in [
        "about.json",
        "configuration.yaml",
        "metrics.txt",
        "log.txt",
        "stores.json",
        "cluster.txt",
        "proc/self-status",
    ] {
        let count = found.keys().filter(|name| name.ends_with(wanted)).count();
        assert_eq!(count, 2, "{wanted} in {:?}", found.keys());
    }
    // Names of a program without optimisation take so long that one of two may be told to go without.
    let slow = |bytes: &[u8]| has(bytes, "finding the functions' names took too long");
    let profiles = found.keys().filter(|name| name.ends_with("cpu.pb.gz")).count();
    let late = found.values().filter(|bytes| slow(bytes)).count();
    assert_eq!(profiles + late, 2, "profiles in {:?}", found.keys());
    let about = found.iter().find(|(name, _)| name.ends_with("about.json")).unwrap().1;
    assert!(has(about, "MUSTER_TEST_SECRET"), "names of the environment are told");
    for (name, bytes) in &found {
        for secret in [PLANTED, secret.as_str(), token.as_str()] {
            assert!(!has(bytes, secret), "{name} holds a secret");
        }
        // Profiles are compressed once more.
        let mut inner = Vec::new();
        if name.ends_with(".gz") {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut inner).unwrap();
            assert!(!has(&inner, PLANTED), "{name} holds a secret");
        }
    }
    println!("{} files, {} bytes", found.len(), std::fs::metadata(&whole).unwrap().len());

    // One that is stopped in its tracks is named, and the other is there.
    cluster.instance(1).pause().unwrap();
    let part = dir.path().join("part.tar.gz");
    let to = part.display().to_string();
    let ids: serde_json::Value =
        serde_json::from_str(&cluster.instance(0).ok(&["instances", "-o", "json"]).unwrap())
            .unwrap();
    let ids: Vec<String> =
        ids.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let mut args = vec![
        "debug".to_owned(),
        "archive".into(),
        "--seconds".into(),
        "0".into(),
        "--to".into(),
        to,
    ];
    for id in ids {
        args.extend(["--instance".to_owned(), id]);
    }
    let output = cluster.instance(0).cli(&args).unwrap();
    cluster.instance(1).resume().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let found = files(&part);
    assert_eq!(found.keys().filter(|name| name.ends_with("about.json")).count(), 1);
    let missing = found.iter().find(|(name, _)| name.ends_with("MISSING.txt"));
    let missing = String::from_utf8_lossy(missing.unwrap().1).into_owned();
    assert!(missing.contains("did not answer in time"), "{missing}");
}
