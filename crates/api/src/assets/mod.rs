//! The page for people: its files, named by their content.
//!
//! A file's name holds a hash of what is in it, so it never changes and may be cached for ever; only
//! the page itself has a fixed address, and names the files of its own version. Behind a balancer the
//! page may come from one version and the next file be asked of another: so each instance publishes
//! its files to the archive when it starts, and an instance that does not know a file looks there.

mod keeper;
mod serve;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub use keeper::Keeper;
pub(crate) use keeper::STATEMENTS;
pub use serve::AssetServer;
pub(crate) use serve::{file, page};

/// Bytes of a hash in a name.
const HASH_BYTES: usize = 8;
/// Longest file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The files of one version.
#[derive(Clone, Debug)]
pub struct Assets {
    page: Bytes,
    files: BTreeMap<String, Bytes>,
}

impl Assets {
    /// Those that a program holds.
    #[must_use]
    pub fn built_in(page: &str, files: &[(&str, &'static [u8])]) -> Self {
        let files = files.iter().filter(|(name, _)| kind_of(name).is_some());
        Self::new(page, files.map(|(name, bytes)| ((*name).to_owned(), Bytes::from_static(bytes))))
    }

    /// Those in a folder with an `index.html`, for somebody who works on them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "index.html" && entry.file_type()?.is_file() && kind_of(&name).is_some() {
                files.push((name, std::fs::read(entry.path())?.into()));
            }
        }
        Ok(Self::new(&std::fs::read_to_string(folder.join("index.html"))?, files))
    }

    /// A page that names its files as `{{name}}`, and the files.
    fn new(page: &str, files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let mut page = page.to_owned();
        let mut named = BTreeMap::new();
        for (name, bytes) in files {
            let hash = hex::encode(&Sha256::digest(&bytes)[..HASH_BYTES]);
            let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
            let hashed = format!("{stem}.{hash}.{extension}");
            page = page.replace(&format!("{{{{{name}}}}}"), &format!("/assets/{hashed}"));
            named.insert(hashed, bytes);
        }
        Self { page: page.into(), files: named }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &Bytes {
        &self.page
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn get(&self, name: &str) -> Option<&Bytes> {
        self.files.get(name)
    }
}

/// The object of a file.
fn object(name: &str) -> String {
    format!("assets/v1/{name}")
}

/// What a file with such a name is, if it may be one of ours: `stem.hash.extension`.
fn kind_of_hashed(name: &str) -> Option<&'static str> {
    let mut parts = name.split('.');
    let (stem, hash) = (parts.next()?, parts.next()?);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = !stem.is_empty()
        && stem.len() <= 64
        && stem.bytes().all(plain)
        && hash.len() == 2 * HASH_BYTES
        && hash.bytes().all(hex);
    let extension = parts.next()?;
    if parts.next().is_some() || !fits { None } else { kind_of_extension(extension) }
}

fn kind_of(name: &str) -> Option<&'static str> {
    kind_of_extension(name.rsplit_once('.')?.1)
}

fn kind_of_extension(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_files_by_their_content() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui"));
        let assets = Assets::of_folder(folder).unwrap();
        let page = String::from_utf8(assets.page().to_vec()).unwrap();
        assert!(!page.contains("{{"), "{page}");
        for name in assets.names() {
            assert!(page.contains(&format!("\"/assets/{name}\"")), "{name}");
            assert!(kind_of_hashed(name).is_some(), "{name}");
        }
        assert_eq!(assets.names().count(), 3);
        // The policy of the page allows nothing inline.
        assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("onclick"));
        assert!(page.matches("<script").count() == page.matches("<script src=").count());
    }

    #[test]
    fn other_names_are_no_files() {
        let hash = "0123456789abcdef";
        assert!(kind_of_hashed(&format!("app.{hash}.js")).is_some());
        for name in [
            "app.js".to_owned(),
            format!("app.{hash}.html"),
            format!("../app.{hash}.js"),
            format!("app.{}.js", hash.to_uppercase()),
            format!("app.{hash}.js.js"),
            format!(".{hash}.js"),
            format!("app.{hash}0.js"),
            String::new(),
        ] {
            assert!(kind_of_hashed(&name).is_none(), "{name}");
        }
    }
}
