//! Values come back as they went in.

use muster_types::{AgentNo, HuntNo, OrgId, Timestamp};
use uuid::Uuid;

use super::{GET, INSERT};
use crate::{Catalog, Priority, args};

crate::statements! {
    HOLD = "INSERT INTO segment_hold (id, objects, held_by, expires_at) VALUES ($1, $2, $3, $4)";
    GET_HOLD = "SELECT id, objects, held_by, expires_at FROM segment_hold WHERE id = $1";
    FLOAT = "SELECT CAST($1 AS DOUBLE PRECISION) AS x, CAST($2 AS DOUBLE PRECISION) AS y";
    EXISTS = "SELECT EXISTS (SELECT 1 FROM segment_hold WHERE id = $1) AS found";
    LABEL = "INSERT INTO label (no, org, name, description, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, '', 0, '', $4, 1)";
    GET_LABEL = "SELECT no, org, deleted_at FROM label WHERE no = $1";
    DELETED = "SELECT no FROM label WHERE no = $1 AND deleted_at IS NOT NULL";
    PAGE = "SELECT name FROM label WHERE org = $1 AND name > $2 ORDER BY name LIMIT $3";
    MACHINE = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        VALUES ($1, 1, '', $2, 0, NULL, 1)";
    GET_MACHINE = "SELECT machine FROM endpoint WHERE no = $1";
}

/// Every type, with its extremes.
pub async fn types_round_trip(catalog: &Catalog) {
    let texts = ["", "plain", "quote ' \" \\ %", "ümlaut 漢字 🦀", "a\nb\tc"];
    for (n, text) in texts.into_iter().enumerate() {
        let id = Uuid::from_u128(n as u128 + 1);
        let at = [i64::MIN, -1, 0, 1, i64::MAX][n];
        catalog.execute(Priority::Api, &HOLD, args![id, text, "", at]).await.unwrap();
        let row = catalog.fetch_optional(&GET_HOLD, args![id]).await.unwrap().unwrap();
        assert_eq!(row.get::<Uuid>("id").unwrap(), id);
        assert_eq!(row.get::<String>("objects").unwrap(), text);
        assert_eq!(row.get::<i64>("expires_at").unwrap(), at);
        assert_eq!(row.get::<Timestamp>("expires_at").unwrap(), Timestamp(at));
        let found = catalog.fetch_optional(&EXISTS, args![id]).await.unwrap().unwrap();
        assert!(found.get::<bool>("found").unwrap());
    }
    let row = catalog.fetch_optional(&FLOAT, args![0.1, -1.5e300]).await.unwrap().unwrap();
    assert_eq!((row.get::<f64>("x").unwrap(), row.get::<f64>("y").unwrap()), (0.1, -1.5e300));

    let large = HuntNo(i64::MAX.unsigned_abs());
    catalog.execute(Priority::Api, &LABEL, args![large, OrgId(7), "l", true]).await.unwrap();
    let row = catalog.fetch_optional(&GET_LABEL, args![large]).await.unwrap().unwrap();
    assert_eq!(row.get::<HuntNo>("no").unwrap(), large);
    assert_eq!(row.get::<OrgId>("org").unwrap(), OrgId(7));
    assert!(row.get::<bool>("deleted_at").unwrap());
    assert!(row.get::<AgentNo>("no").is_err(), "out of range");
    assert!(row.get::<String>("no").is_err(), "another type");
    assert!(row.get::<i64>("nothing").is_err(), "no such column");

    let above = catalog.fetch_optional(&GET_LABEL, args![u64::MAX]).await.unwrap_err();
    assert!(above.to_string().contains("above 2^63-1"), "{above}");
    let missing = catalog.fetch_optional(&GET_LABEL, args![]).await.unwrap_err();
    assert!(missing.to_string().contains("0 arguments, not 1"), "{missing}");
}

/// NULLs of every type, also from a statement that was prepared with a value.
pub async fn nulls(catalog: &Catalog) {
    let times = [None, Some(Timestamp(5)), None];
    for (no, at) in (1..).zip(times) {
        let args = args![no, OrgId(1), format!("n{no}"), at];
        catalog.execute(Priority::Api, &LABEL, args).await.unwrap();
        let row = catalog.fetch_optional(&GET_LABEL, args![no]).await.unwrap().unwrap();
        assert_eq!(row.get::<Option<Timestamp>>("deleted_at").unwrap(), at);
        assert_eq!(row.get::<Timestamp>("deleted_at").is_ok(), at.is_some());
        let deleted = catalog.fetch_optional(&DELETED, args![no]).await.unwrap();
        assert_eq!(deleted.is_some(), at.is_some());
    }
    for (no, machine) in (1..).zip([None, Some("m"), Some(""), None]) {
        catalog.execute(Priority::Api, &MACHINE, args![no, machine]).await.unwrap();
        let row = catalog.fetch_optional(&GET_MACHINE, args![no]).await.unwrap().unwrap();
        assert_eq!(row.get::<Option<String>>("machine").unwrap().as_deref(), machine);
    }
    let row = catalog.fetch_optional(&FLOAT, args![None::<f64>, 1.0]).await.unwrap().unwrap();
    assert_eq!(row.get::<Option<f64>>("x").unwrap(), None);
}

/// Megabytes of text and bytes.
pub async fn big_values(catalog: &Catalog) {
    let bytes: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let mut tx = catalog.begin(Priority::Intake).await.unwrap();
    tx.execute(&INSERT, args!["big", &bytes, 1]).await.unwrap();
    tx.execute(&INSERT, args!["empty", Vec::<u8>::new(), 1]).await.unwrap();
    tx.commit().await.unwrap();
    let mut row = catalog.fetch_optional(&GET, args!["big"]).await.unwrap().unwrap();
    assert!(row.take::<Vec<u8>>("sealed").unwrap() == bytes);
    let row = catalog.fetch_optional(&GET, args!["empty"]).await.unwrap().unwrap();
    assert_eq!(row.get::<Vec<u8>>("sealed").unwrap(), Vec::<u8>::new());

    let text = "å".repeat(1 << 20);
    let id = Uuid::from_u128(99);
    catalog.execute(Priority::Api, &HOLD, args![id, &text, "", 0]).await.unwrap();
    let mut row = catalog.fetch_optional(&GET_HOLD, args![id]).await.unwrap().unwrap();
    assert!(row.take::<String>("objects").unwrap() == text);
}

/// Text orders by bytes, so that keyset paging sees each row once on both databases.
pub async fn keyset_order_is_byte_order(catalog: &Catalog) {
    let mut names = ["b", "B", "a", "_", "ä", "Z", "zz", "z", "-", "10", "9", "é", "e\u{301}", " "];
    for (no, name) in (1..).zip(names) {
        catalog.execute(Priority::Api, &LABEL, args![no, 1, name, None::<i64>]).await.unwrap();
    }
    names.sort_unstable();
    let (mut paged, mut last) = (Vec::new(), String::new());
    loop {
        let page = catalog.fetch_all(&PAGE, args![1, &last, 3]).await.unwrap();
        let Some(row) = page.last() else { break };
        last = row.get("name").unwrap();
        paged.extend(page.iter().map(|row| row.get::<String>("name").unwrap()));
    }
    assert_eq!(paged, names);
}
