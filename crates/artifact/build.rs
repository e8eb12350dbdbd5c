//! Collects the built-in artifacts: every YAML file under `builtin` becomes part of the program.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=builtin");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut names: Vec<String> = fs::read_dir(Path::new(&root).join("builtin"))
        .expect("the folder is part of the crate")
        .filter_map(|entry| {
            let path = entry.expect("a readable folder").path();
            Some(path.file_name()?.to_str()?.strip_suffix(".yaml")?.to_owned())
        })
        .collect();
    names.sort();
    // The path is made when the file is compiled, not here: a build folder that two checkouts share keeps this
    // script's output from one of them.
    let folder = r#"env!("CARGO_MANIFEST_DIR"), "/builtin/""#;
    let mut code = String::from("[\n");
    for name in names {
        writeln!(code, "    ({name:?}, include_str!(concat!({folder}, {name:?}, \".yaml\"))),")
            .expect("a String takes all");
    }
    code.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("builtin.rs"), code).expect("a writable OUT_DIR");
}
