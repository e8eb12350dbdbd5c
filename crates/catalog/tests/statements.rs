//! Every statement of this crate prepares on both databases and reads through an index.

use muster_catalog::{check, statements};
use muster_testkit::TempCatalog;

statements! {
    SCANS = "SELECT no FROM label WHERE description = $1";
    small MAY_SCAN = "SELECT no FROM label WHERE description = $1";
    SEEKS = "SELECT no FROM label WHERE change > $1 ORDER BY change";
    BULK = {
        sqlite: "SELECT no FROM label WHERE no IN (SELECT value FROM json_each($1))",
        postgres: "SELECT no FROM label
            WHERE no IN (SELECT CAST(value AS BIGINT) FROM jsonb_array_elements_text(CAST($1 AS JSONB)))"
    };
    WRONG = "SELECT nothing FROM label";
}

#[tokio::test]
async fn all_are_sound() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_catalog::statements()).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn scans_and_mistakes_are_found() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems =
            check::problems(&temp.catalog, &[&SCANS, &MAY_SCAN, &SEEKS, &BULK]).await.unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("SCANS: "), "{problems:?}");
        let wrong = check::prepare_all(&temp.catalog, &[&SEEKS, &WRONG]).await.unwrap_err();
        assert!(wrong.to_string().contains("WRONG: "), "{wrong}");
        let plans = check::plans(&temp.catalog, &[&SEEKS]).await.unwrap();
        assert!(plans[0].text.contains("label_change"), "{}", plans[0].text);
    }
}
