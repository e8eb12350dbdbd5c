//! Carves: a file in blocks.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::host::Host;
use super::live::once;
use super::report::Route;
use super::run::Shared;

/// A random GUID.
pub(super) fn guid() -> String {
    let bytes: [u8; 16] = rand::random();
    let hex = hex::encode(bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// Sends one file; given up when a block is not taken three times.
pub(super) async fn send(shared: &Shared, host: &Host, carve_id: &str) {
    let (size, block) = (shared.options.carve_bytes, shared.options.carve_block_bytes.max(1));
    let (blocks, request_id, key) = (size.div_ceil(block), guid(), host.key(shared).await);
    let begin = json!({
        "block_count": blocks, "block_size": block, "carve_size": size, "carve_id": carve_id,
        "request_id": request_id, "node_key": key
    });
    let answer = tried(shared, host, Route::CarveBegin, begin.to_string().as_bytes()).await;
    let session = answer.and_then(|answer| {
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        answer["session_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned)
    });
    let Some(session) = session else { return shared.stats.count("carves refused") };
    for n in 0..blocks {
        let bytes: Vec<u8> = (n * block..size.min((n + 1) * block)).map(|at| at as u8).collect();
        let body = json!({
            "block_id": n, "session_id": session, "request_id": request_id,
            "data": STANDARD.encode(bytes)
        });
        let body = body.to_string();
        let sent = tried(shared, host, Route::CarveBlock, body.as_bytes()).await.is_some();
        if !sent && host.release < 22 {
            shared.stats.count("blocks skipped");
        } else if !sent {
            return shared.stats.count("carves given up");
        }
    }
    shared.stats.carves_sent.fetch_add(1, Relaxed);
}

/// Three attempts since release 5.22, before that one. These answers are not looked into for errors.
async fn tried(shared: &Shared, host: &Host, route: Route, body: &[u8]) -> Option<Vec<u8>> {
    let attempts: u64 = if host.release >= 22 { 3 } else { 1 };
    for attempt in 1..=attempts {
        if let Some(answer) = once(shared, host, route, body).await {
            return Some(answer);
        }
        if attempt < attempts {
            shared.pause(Duration::from_secs(attempt * attempt)).await;
        }
    }
    None
}
