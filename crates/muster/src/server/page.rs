//! The page for people that this program holds; see `build.rs`.

include!(concat!(env!("OUT_DIR"), "/page.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_file_it_is_built_with() {
        assert!(FILES.len() >= 3);
        for (name, bytes) in FILES {
            assert!(PAGE.contains(&format!("{{{{{name}}}}}")), "{name}");
            assert!(!bytes.is_empty(), "{name}");
        }
    }
}
