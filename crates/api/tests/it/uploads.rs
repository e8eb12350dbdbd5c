//! Uploads: listed and read by those who may see the endpoint, and every reading is recorded.

use bytes::Bytes;
use muster_catalog::{Priority, args, statements};
use muster_types::{AgentNo, Clock, EndpointNo, OrgId};
use muster_uploads::NewUpload;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::kit::Api;

statements! {
    STORE = "
        UPDATE upload SET
            state = 'stored', sha256 = $2, object = $3, piece_count = 2, byte_count = $4,
            format = 'tar'
        WHERE no = $1";
}

const OBJECT: &str = "upload/v1/2023-11-14/1-abc";

async fn begin(api: &Api, endpoint: u32, name: &str) -> i64 {
    let snapshot = api.directory.snapshot();
    let agent: AgentNo = snapshot.endpoint(EndpointNo(endpoint)).unwrap().agents[0];
    let external_id = name.to_owned();
    let new =
        NewUpload { kind: "carve", external_id, block_count: 2, block_size: 8, byte_count: 9 };
    let begun = api.uploads.begin(OrgId::DEFAULT, agent, &new, api.clock.now()).await.unwrap();
    api.uploads.session(&begun).unwrap().upload.0 as i64
}

/// Stored in two pieces.
async fn store(api: &Api, no: i64, content: &[u8]) {
    for (index, piece) in [&content[..4], &content[4..]].into_iter().enumerate() {
        let name = format!("{OBJECT}-{index}");
        api.archive.put_new(&name, Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let hash: [u8; 32] = Sha256::digest(content).into();
    let values = args![no, hash, OBJECT, content.len() as u64];
    api.catalog.execute(Priority::Api, &STORE, values).await.unwrap();
}

#[tokio::test]
async fn a_file_is_offered_whole_with_its_hash_and_the_reading_is_recorded() {
    let api = Api::start().await;
    let mine = api.endpoint("dev-laptop", true, "dev").await;
    let board = api.endpoint("board-laptop", true, "board").await;
    let no = begin(&api, mine, "guid-1").await;
    let other = begin(&api, board, "guid-2").await;
    let path = format!("/v1/uploads/{no}/content");
    api.get(&api.root, &path).await.refused(409, "conflict");
    store(&api, no, b"some file").await;

    let dev = api.user("dee", json!([{"role": "analyst", "labels": ["dev"]}])).await;
    let listed = api.get(&dev, "/v1/uploads").await.expect(200);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{listed}");
    assert_eq!(items[0]["external_id"], "guid-1");
    assert_eq!(items[0]["endpoint"], mine);
    assert_eq!(items[0]["sha256"], hex::encode(Sha256::digest(b"some file")));

    let file = api.get(&dev, &path).await;
    assert_eq!(file.bytes, b"some file");
    assert_eq!(file.headers["content-length"], "9");
    assert_eq!(file.headers["content-type"], "application/octet-stream");
    let name = format!("attachment; filename=\"upload-{no}.tar\"");
    assert_eq!(file.headers["content-disposition"], name.as_str());
    assert_eq!(file.headers["x-content-type-options"], "nosniff");
    assert!(file.headers["repr-digest"].to_str().unwrap().starts_with("sha-256=:"));
    assert_eq!(api.audited("operation=uploads.content&outcome=ok").await.len(), 1);

    for path in [format!("/v1/uploads/{other}"), format!("/v1/uploads/{other}/content")] {
        api.get(&dev, &path).await.refused(404, "not_found");
    }
    api.get(&dev, &format!("/v1/uploads?endpoint={board}")).await.refused(404, "not_found");
    let viewer = api.user("vic", json!([{"role": "viewer", "labels": ["dev"]}])).await;
    api.get(&viewer, &format!("/v1/uploads/{no}")).await.expect(200);
    api.get(&viewer, &path).await.refused(403, "forbidden");
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let api = Api::start().await;
    let mine = api.endpoint("one", true, "").await;
    for name in ["a", "b", "c"] {
        begin(&api, mine, name).await;
    }
    let page = api.get(&api.root, "/v1/uploads?limit=2").await.expect(200);
    let next = page["next"].as_str().unwrap();
    assert_eq!(page["items"][0]["external_id"], "c");
    let rest = api.get(&api.root, &format!("/v1/uploads?limit=2&after={next}")).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest.get("next").is_none());
    let stored = api.get(&api.root, "/v1/uploads?state=stored").await.expect(200);
    assert!(stored["items"].as_array().unwrap().is_empty());
    api.get(&api.root, "/v1/uploads?state=lost").await.refused(422, "invalid");
}
