//! Every statement on both databases.

use muster_catalog::check;
use muster_testkit::TempCatalog;

#[tokio::test]
async fn every_statement_is_good_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems =
            check::problems(&temp.catalog, &muster_telemetry::statements()).await.unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
