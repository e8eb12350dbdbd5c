//! The stream in memory keeps the contract.

use std::sync::Arc;

use async_trait::async_trait;
use muster_stream::conformance::{self, Harness};
use muster_stream::memory::MemoryStream;
use muster_stream::{AppendError, Stream};

struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn open(&self, quota_bytes: u64) -> Arc<dyn Stream> {
        Arc::new(MemoryStream::with_quota(quota_bytes))
    }

    async fn reopen(&self, stream: Arc<dyn Stream>) -> Arc<dyn Stream> {
        stream
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    conformance::all(&Memory).await;
}

#[tokio::test]
async fn a_simulation_can_make_it_refuse() {
    let stream = MemoryStream::new();
    stream.refuse(Some(AppendError::Unavailable("gone for a while".to_owned())));
    let refused = stream.append(vec![conformance::record(1, "x")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))));
    stream.refuse(None);
    assert!(stream.append(vec![conformance::record(1, "x")]).await.is_ok());
}
