//! A second server that follows the first, and takes over.

use std::time::Duration;

use anyhow::{Context, bail};

use super::Postgres;
use crate::wait_for;

/// How long a standby may take to catch up, or to become the primary.
const MOST: Duration = Duration::from_secs(60);

impl Postgres {
    /// Makes a server that follows this one. From then on this one acknowledges nothing that the
    /// standby has not written: it is synchronous.
    ///
    /// # Errors
    /// When the copy cannot be taken or the standby does not start.
    pub fn standby(&self) -> anyhow::Result<Self> {
        let standby = self.follower("sync")?;
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'sync'")?;
        self.sql("SELECT pg_reload_conf()")?;
        self.wait_state("sync", "sync")?;
        Ok(standby)
    }

    /// Makes a server that follows this one at its own pace: good for reading, not for taking over.
    ///
    /// # Errors
    /// As [`Postgres::standby`].
    pub fn replica(&self) -> anyhow::Result<Self> {
        let replica = self.follower("replica")?;
        self.wait_state("replica", "async")?;
        Ok(replica)
    }

    /// Makes a standby the primary; the old one must be dead. It waits for nobody.
    ///
    /// # Errors
    /// When it is none, or does not become the primary.
    pub fn promote(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_promote(true, 60)")?;
        wait_for("the standby to become the primary", MOST, || {
            Ok((self.sql("SELECT pg_is_in_recovery()")? == "f").then_some(()))
        })
    }

    fn follower(&self, name: &str) -> anyhow::Result<Self> {
        let server = Self::prepare()?;
        let source =
            format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        let mut copy = server.program("pg_basebackup");
        copy.args(["-d", &source, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"]);
        let output = copy.arg(server.data()).output().context("run pg_basebackup")?;
        if !output.status.success() {
            bail!("pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        }
        server.configure(super::Kind::Own)?;
        // What this one was told by ALTER SYSTEM came with the copy; the line it follows by must stay.
        server.run()?;
        Ok(server)
    }

    fn wait_state(&self, name: &str, state: &str) -> anyhow::Result<()> {
        let question =
            format!("SELECT sync_state FROM pg_stat_replication WHERE application_name = '{name}'");
        wait_for(
            "the standby to follow",
            MOST,
            || Ok((self.sql(&question)? == state).then_some(())),
        )
    }
}
