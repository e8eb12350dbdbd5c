//! Collects the page for people: every file of `ui`, or of the folder that `MUSTER_PAGE_DIR` names when the
//! feature `own-page` is on, becomes part of the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let own = env::var_os("CARGO_FEATURE_OWN_PAGE").is_some();
    let folder = if own {
        println!("cargo::rerun-if-env-changed=MUSTER_PAGE_DIR");
        let named = env::var_os("MUSTER_PAGE_DIR").map(PathBuf::from);
        named.expect("the feature own-page wants MUSTER_PAGE_DIR, a folder with an index.html")
    } else {
        Path::new(&root).join("../../ui")
    };
    let folder =
        folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    // The path of our own is made when the file is compiled, not here: a build folder that two checkouts share
    // keeps this script's output from one of them.
    let place = |name: &str| match own {
        true => format!("{:?}", folder.join(name)),
        false => format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../../ui/\", {name:?})"),
    };
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<String> = fs::read_dir(&folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_file())
        .filter_map(|path| Some(path.file_name()?.to_str().expect("names are UTF-8").to_owned()))
        .collect();
    files.sort();
    let page = "index.html";
    assert!(files.iter().any(|name| name == page), "{} holds no {page}", folder.display());
    let mut code = String::new();
    let all = "/// The page.\npub const PAGE: &str";
    writeln!(code, "{all} = include_str!({});", place(page)).expect("a String takes all");
    writeln!(code, "/// Its files, by name.\npub const FILES: &[(&str, &[u8])] = &[")
        .expect("a String takes all");
    for name in files.iter().filter(|name| *name != page) {
        writeln!(code, "    ({name:?}, include_bytes!({})),", place(name))
            .expect("a String takes all");
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("page.rs"), code).expect("a writable OUT_DIR");
}
