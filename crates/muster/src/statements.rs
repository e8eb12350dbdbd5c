//! What this version asks the database, kept for the versions after it; see `muster_catalog::compat`.

use muster_catalog::Statement;
use muster_catalog::compat::Release;

/// The statements of all crates.
fn all() -> Vec<&'static Statement> {
    let mut all = [
        muster_api::statements(),
        muster_archive::statements(),
        muster_backup::statements(),
        muster_catalog::statements(),
        muster_cluster::statements(),
        muster_endpoints::statements(),
        muster_hunts::statements(),
        muster_intake::statements(),
        muster_inventory::statements(),
        muster_schedules::statements(),
        muster_sinks::statements(),
        muster_uploads::statements(),
    ]
    .concat();
    #[cfg(feature = "sql")]
    all.extend(muster_query::statements());
    all
}

/// `cargo xtask statements` writes the file; it is committed with a release and never changed again.
#[test]
fn statements_of_this_version() {
    let release = Release::this(&all());
    let text = release.to_text();
    assert_eq!(Release::parse(&text).unwrap().to_text(), text);
    if std::env::var_os("MUSTER_KEEP_STATEMENTS").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../catalog/compat");
        let version = env!("CARGO_PKG_VERSION");
        let is_whole = cfg!(feature = "sql");
        assert!(is_whole, "the query engine's statements are missing");
        std::fs::write(format!("{folder}/{version}.json"), text).unwrap();
    }
}
