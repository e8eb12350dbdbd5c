//! The inventory over real catalogs.

mod kit;
mod policies;
mod rounds;
mod rules;
mod schema;

use muster_catalog::check;
use muster_testkit::TempCatalog;

#[tokio::test]
async fn statements_prepare_and_seek_on_both_databases() {
    for temp in TempCatalog::both().await.unwrap() {
        let statements = muster_inventory::statements();
        let problems = check::problems(&temp.catalog, &statements).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}
