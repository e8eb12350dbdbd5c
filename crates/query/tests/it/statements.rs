//! Every statement prepares on both databases and scans no table that grows.

use muster_catalog::check;
use muster_testkit::TempCatalog;

#[tokio::test]
async fn statements_prepare_and_use_indexes() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_query::statements()).await.unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
