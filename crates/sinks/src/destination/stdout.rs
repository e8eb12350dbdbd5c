//! Standard output: a row a line.

use tokio::io::AsyncWriteExt;

use super::{SendError, Sent, all_taken};
use crate::event::Event;

pub(super) async fn send(events: &[Event]) -> Sent {
    let mut text = Vec::with_capacity(events.iter().map(|event| event.body.len() + 1).sum());
    for event in events {
        text.extend_from_slice(&event.body);
        text.push(b'\n');
    }
    let mut out = tokio::io::stdout();
    let written = async {
        out.write_all(&text).await?;
        out.flush().await
    };
    let failed = |error: std::io::Error| SendError::failed(format!("standard output: {error}"));
    written.await.map_err(failed)?;
    Ok(all_taken(events))
}
