//! The rules of osquery's TLS remote protocol, each a test of its own, over real HTTPS.
//!
//! `docs/src/osquery-conformance.md` lists them.

mod client;
mod rig;

mod carve;
mod config;
mod distributed;
mod enrol;
mod idle;
mod keys;
mod log;
mod transport;
mod write;

/// The page is what people read; the tests are what is true.
#[test]
fn the_page_lists_every_rule() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("../../../docs/src/osquery-conformance.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rules = 0;
    for file in std::fs::read_dir(root.join("tests/conformance")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for rule in text.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = rule.split('(').next().unwrap();
            assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
            rules += 1;
        }
    }
    assert_eq!(page.matches("` |\n").count(), rules, "the page lists what is not tested");
}
