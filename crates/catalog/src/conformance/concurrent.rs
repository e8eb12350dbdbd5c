//! Eight writers at once.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::{Catalog, Priority, args};

const WRITERS: i64 = 8;
const ROUNDS: i64 = 25;

crate::statements! {
    LABEL = "INSERT INTO label (no, org, name, description, created_at, created_by, deleted_at, change)
        VALUES ($1, 1, $2, '', 0, '', NULL, $3)";
    SINCE = "SELECT change FROM label WHERE change > $1 ORDER BY change";
    COUNTER = "SELECT seq FROM feed WHERE topic = $1";
    SET = "UPDATE feed SET seq = $1 WHERE topic = $2 AND seq = $3";
}

/// A reader that asks for what is above its last number never misses a row.
pub async fn feed_order_is_commit_order(catalog: &Catalog) {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let catalog = catalog.clone();
        writers.spawn(async move {
            for round in 0..ROUNDS {
                let mut tx = catalog.begin(Priority::Api).await.unwrap();
                let change = tx.bump("conformance").await.unwrap();
                // Others get the chance to overtake between the number and the commit.
                tokio::task::yield_now().await;
                let no = writer * ROUNDS + round;
                tx.execute(&LABEL, args![no, no.to_string(), change]).await.unwrap();
                match round % 5 {
                    4 => drop(tx),
                    _ => tx.commit().await.unwrap(),
                }
            }
        });
    }
    let (mut seen, mut last) = (0, 0);
    loop {
        let finished = writers.is_empty();
        for row in catalog.fetch_all(&SINCE, args![last]).await.unwrap() {
            let change = row.get::<i64>("change").unwrap();
            assert_eq!(change, last + 1, "the feed skipped, or a rolled back number was kept");
            (last, seen) = (change, seen + 1);
        }
        if finished {
            break;
        }
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, WRITERS * ROUNDS / 5 * 4);
}

/// Compare-and-set on the old value: the sum is exact.
pub async fn compare_and_set_loses_nothing(catalog: &Catalog) {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.bump_by("counter", 0).await.unwrap();
    tx.commit().await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let catalog = catalog.clone();
        writers.spawn(async move {
            let mut done = 0;
            while done < ROUNDS {
                let row = catalog.fetch_optional(&COUNTER, args!["counter"]).await.unwrap();
                let old: i64 = row.unwrap().get("seq").unwrap();
                let args = args![old + 1, "counter", old];
                done += i64::try_from(catalog.execute(Priority::Api, &SET, args).await.unwrap())
                    .unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let row = catalog.fetch_optional(&COUNTER, args!["counter"]).await.unwrap().unwrap();
    assert_eq!(row.get::<i64>("seq").unwrap(), WRITERS * ROUNDS);
}

/// Dense numbers, from a topic that did not exist, are each given to one writer.
pub async fn numbers_are_taken_once(catalog: &Catalog) {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let catalog = catalog.clone();
        writers.spawn(async move {
            let mut taken = Vec::new();
            for round in 0..ROUNDS {
                let n = 1 + (writer + round) % 3;
                let mut tx = catalog.begin(Priority::Api).await.unwrap();
                let last = tx.bump_by("number/conformance", n).await.unwrap();
                tx.commit().await.unwrap();
                taken.extend(last - n + 1..=last);
            }
            taken
        });
    }
    let (mut all, mut count) = (BTreeSet::new(), 0);
    while let Some(taken) = writers.join_next().await {
        let taken = taken.unwrap();
        count += taken.len();
        all.extend(taken);
    }
    assert_eq!(all.len(), count, "a number was given twice");
    assert_eq!((all.first().copied(), all.len() as i64), (Some(1), *all.last().unwrap()));
}
