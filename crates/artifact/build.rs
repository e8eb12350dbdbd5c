//! Collects the built-in artifacts: every YAML file under `builtin` becomes part of the program.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=builtin");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut files: Vec<(String, String)> = fs::read_dir(Path::new(&root).join("builtin"))
        .expect("the folder is part of the crate")
        .filter_map(|entry| {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name()?.to_str()?.strip_suffix(".yaml")?.to_owned();
            Some((name, path.to_str()?.to_owned()))
        })
        .collect();
    files.sort();
    let mut code = String::from("[\n");
    for (name, path) in files {
        writeln!(code, "    ({name:?}, include_str!({path:?})),").expect("a String takes all");
    }
    code.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("builtin.rs"), code).expect("a writable OUT_DIR");
}
