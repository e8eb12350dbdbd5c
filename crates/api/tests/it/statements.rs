//! Every statement prepares on both databases, and none reads a growing table whole.

use muster_catalog::check;
use muster_testkit::TempCatalog;

#[tokio::test]
async fn statements_prepare_and_seek_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_api::statements()).await.unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
