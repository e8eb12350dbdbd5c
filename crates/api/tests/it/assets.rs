//! The page and its files, of this version and of others.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use muster_api::assets::{Assets, Keeper};
use serde_json::Value;

use crate::kit::Api;

async fn get(kit: &Api, path: &str) -> crate::kit::Answer {
    kit.call("", Method::GET, path, Value::Null).await
}

/// A version with another script.
fn other(script: &str) -> Assets {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "<script src=\"{{app.js}}\"></script>").unwrap();
    std::fs::write(dir.path().join("app.js"), script).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not served").unwrap();
    Assets::of_folder(dir.path()).unwrap()
}

#[tokio::test]
async fn the_page_is_never_cached_and_its_files_for_ever() {
    let kit = Api::start().await;
    let page = get(&kit, "/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-cache");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = String::from_utf8(page.bytes).unwrap();
    let files: Vec<&str> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(files.len() >= 3, "{text}");
    for file in files {
        let answer = get(&kit, file).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        let caching = answer.headers[header::CACHE_CONTROL].to_str().unwrap();
        assert!(caching.contains("immutable"), "{caching}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    for path in ["/assets/app.0123456789abcdef.js", "/assets/app.js", "/assets/..%2f..%2fetc"] {
        assert_eq!(get(&kit, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn any_instance_serves_any_versions_files_until_nobody_has_them() {
    let kit = Api::start().await;
    let (older, newer) = (other("older();"), other("newer();"));
    let name = |assets: &Assets| assets.names().next().unwrap().to_owned();
    let (old, new) = (name(&older), name(&newer));
    assert_eq!(older.names().count(), 1);
    assert_ne!(old, new);
    let keeper = |assets: &Assets| {
        Keeper::new(kit.catalog.clone(), kit.archive.clone(), Arc::new(assets.clone()))
    };
    keeper(&older).round(Duration::from_secs(3600)).await.unwrap();
    let path = format!("/assets/{old}");
    assert_eq!(get(&kit, &path).await.bytes, b"older();");

    // A newer version starts beside it and has nothing to remove yet.
    assert_eq!(keeper(&newer).round(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(get(&kit, &format!("/assets/{new}")).await.bytes, b"newer();");
    // The older one has gone; after its time only what somebody still has is left.
    assert_eq!(keeper(&newer).round(Duration::ZERO).await.unwrap(), 1);
    let left = kit.archive.list("assets").await.unwrap();
    assert_eq!(
        left.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
        [format!("assets/v1/{new}")]
    );
    // A page of it that is open in a browser is asked again for the old one: it starts anew.
    keeper(&older).round(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(kit.archive.list("assets").await.unwrap().len(), 2);
}
