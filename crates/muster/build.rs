//! Collects the page for people: every file of `ui`, or of the folder that `MUSTER_PAGE_DIR` names when the
//! feature `own-page` is on, becomes part of the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = match env::var_os("CARGO_FEATURE_OWN_PAGE") {
        None => Path::new(&root).join("../../ui"),
        Some(_) => {
            println!("cargo::rerun-if-env-changed=MUSTER_PAGE_DIR");
            let named = env::var_os("MUSTER_PAGE_DIR").map(PathBuf::from);
            named.expect("the feature own-page wants MUSTER_PAGE_DIR, a folder with an index.html")
        }
    };
    let folder =
        folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let page = folder.join("index.html");
    assert!(files.contains(&page), "{} holds no index.html", folder.display());
    let mut code = String::new();
    let all = "/// The page.\npub const PAGE: &str";
    writeln!(code, "{all} = include_str!({page:?});").expect("a String takes all");
    writeln!(code, "/// Its files, by name.\npub const FILES: &[(&str, &[u8])] = &[")
        .expect("a String takes all");
    for path in files.iter().filter(|path| **path != page) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        writeln!(code, "    ({name:?}, include_bytes!({path:?})),").expect("a String takes all");
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("page.rs"), code).expect("a writable OUT_DIR");
}
