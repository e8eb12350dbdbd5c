//! What instances do: open, fold, cut, commit, crash, lose and win leases, tidy up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use muster_archive::compaction::CompactOptions;
use muster_intake::janitor;
use muster_intake::worker::{Core, Error, Options, Watched};
use muster_types::{Clock, Epoch, Shard};
use rand::Rng;

use crate::world::{INSTANCES, World};

impl World {
    /// Shards go to other instances, which know at once; who had them may not.
    pub fn move_leases(&mut self) {
        let to = self.rng.random_range(0..INSTANCES);
        let before = self.instances[to].held.clone();
        for n in 1..5 {
            if !self.rng.random_bool(0.5) {
                continue;
            }
            let shard = Shard::new(n).unwrap();
            let epoch = self.epochs.entry(shard).or_insert(Epoch(0));
            epoch.0 += 1;
            self.instances[to].held.insert(shard, *epoch);
        }
        let instance = &mut self.instances[to];
        let kept = before.iter().all(|(shard, epoch)| instance.held[shard] == *epoch);
        // Some start anew although they need not.
        if !kept || self.rng.random_bool(0.25) {
            self.crash(to);
        }
    }

    /// Learns what it holds.
    pub fn notice(&mut self, index: usize) {
        let instance = &mut self.instances[index];
        let before = instance.held.len();
        instance.held.retain(|shard, epoch| self.epochs[shard] == *epoch);
        if instance.held.len() != before {
            self.crash(index);
        }
    }

    pub fn crash(&mut self, index: usize) {
        let instance = &mut self.instances[index];
        (instance.core, instance.reader, instance.cut) = (None, None, None);
        instance.fuse.store(i64::MAX, Ordering::SeqCst);
    }

    pub fn failed(&mut self, index: usize, error: &Error) {
        match error {
            Error::Fenced { .. } => self.fenced += 1,
            _ => self.crashes += 1,
        }
        self.crash(index);
    }

    /// Opens what it holds if need be, then reads and folds what is there.
    pub async fn work(&mut self, index: usize) {
        if let Err(error) = self.try_work(index).await {
            self.failed(index, &error);
        }
    }

    pub async fn try_work(&mut self, index: usize) -> Result<(), Error> {
        let instance = &mut self.instances[index];
        if instance.held.is_empty() {
            return Ok(());
        }
        if instance.core.is_none() {
            let options = Options { delta_bytes_max: 2_000, ..Options::default() };
            let core = Core::open(instance.deps.clone(), options, &instance.held).await?;
            if core.positions().is_empty() {
                return Ok(());
            }
            instance.reader = Some(instance.deps.stream.reader(core.positions()).await?);
            instance.core = Some(core);
            instance.taken = instance.held.clone();
        }
        if let Some(core) = &mut instance.core {
            let mut gained = instance.held.clone();
            gained.retain(|shard, _| !instance.taken.contains_key(shard));
            if !gained.is_empty() {
                core.adopt(&gained).await?;
                instance.taken.append(&mut gained);
                instance.reader = Some(instance.deps.stream.reader(core.positions()).await?);
                self.adopted += 1;
            }
        }
        let (Some(core), Some(reader)) = (&mut instance.core, &mut instance.reader) else {
            return Ok(());
        };
        let bytes = self.rng.random_range(1..4_000);
        if let Some(entries) = reader.next(bytes).now_or_never() {
            core.process(entries?, &Watched::default()).await?;
        }
        Ok(())
    }

    pub async fn cut(&mut self, index: usize) {
        let instance = &mut self.instances[index];
        if instance.cut.is_some() {
            return;
        }
        let Some(core) = &mut instance.core else { return };
        match core.cut().await {
            Ok(cut) => instance.cut = cut,
            Err(error) => self.failed(index, &error),
        }
    }

    pub async fn commit(&mut self, index: usize) {
        let instance = &mut self.instances[index];
        let Some(cut) = instance.cut.take() else { return };
        match cut.commit(&instance.deps).await {
            Ok(_) => {
                self.commits += 1;
                if let Some(core) = &mut instance.core {
                    core.committed();
                }
            }
            Err(error) => self.failed(index, &error),
        }
    }

    pub async fn sweep(&mut self, index: usize) {
        if let Err(error) = self.try_sweep(index).await {
            self.failed(index, &error);
        }
    }

    pub async fn try_sweep(&mut self, index: usize) -> Result<(), Error> {
        let instance = &mut self.instances[index];
        let Some(core) = &mut instance.core else { return Ok(()) };
        let records = core.due(1000).await?;
        if let Ok(positions) = instance.deps.stream.append(records.clone()).await {
            core.appended(&records, &positions);
        }
        Ok(())
    }

    /// Merges until nothing is left to be merged.
    pub async fn merge_all(&mut self) {
        let mut before = u64::MAX;
        while before != self.compacted {
            before = self.compacted;
            self.clock.advance(Duration::from_secs(2 * 3600));
            self.tidy().await;
        }
    }

    /// Merges what is there, drops what was replaced; stops at any failure.
    pub async fn tidy(&mut self) {
        let options = janitor::Options {
            compact: CompactOptions {
                min_age: Duration::ZERO,
                min_parts: 2,
                grace: Duration::from_secs(60),
                ..CompactOptions::default()
            },
            ..janitor::Options::default()
        };
        let now = self.clock.now();
        let round = janitor::round(&self.temp.catalog, &self.archive, &options, false, now);
        match round.await {
            Ok(round) => self.compacted += u64::from(round.compacted),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}
