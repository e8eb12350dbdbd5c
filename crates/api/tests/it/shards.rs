//! `/shards` costs the stream little, however often it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use muster_stream::memory::MemoryStream;
use muster_stream::{AppendError, Pressure, ReadError, Reader, Stream};
use muster_types::{Pos, Record, Shard};
use tokio::sync::watch;

use crate::kit::Api;

/// A stream that counts its readers.
struct Counting(MemoryStream, AtomicUsize);

#[async_trait]
impl Stream for Counting {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        self.0.append(records).await
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.reader(after).await
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        self.0.trim(shard, upto).await;
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.0.pressure()
    }
}

#[tokio::test]
async fn many_who_look_at_once_cost_one_look() {
    let stream = Arc::new(Counting(MemoryStream::new(), AtomicUsize::new(0)));
    let read = || stream.1.load(Ordering::SeqCst);
    let api = Api::with(|with| with.stream = Some(stream.clone())).await;
    let began = Instant::now();
    // Those that do not wait for their answer cost no more.
    for _ in 0..5 {
        let look = api.get(&api.root, "/v1/shards");
        let _ = tokio::time::timeout(Duration::from_millis(20), look).await;
    }
    let looks = (0..8).map(|_| api.get(&api.root, "/v1/shards"));
    let answers = futures_util::future::join_all(looks).await;
    // One, unless this machine is so busy that two seconds have passed.
    let looks = read();
    assert!(looks <= 1 + began.elapsed().as_secs() as usize / 2, "{looks} looks");
    for answer in answers {
        answer.expect(200);
    }
    // Later it is looked at anew.
    for _ in 0..300 {
        api.get(&api.root, "/v1/shards").await.expect(200);
        if read() > looks {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an old answer stays for ever");
}
