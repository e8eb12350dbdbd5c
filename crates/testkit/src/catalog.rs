//! A migrated catalog of one test.

use anyhow::Context;
use muster_catalog::{Catalog, Options};

use crate::Postgres;

/// A fresh, migrated catalog; the store of a SQLite one goes when this is dropped.
#[derive(Debug)]
pub struct TempCatalog {
    /// The open catalog.
    pub catalog: Catalog,
    /// Where it is, to open it again.
    pub url: String,
    /// A folder of this test; a SQLite store is `catalog.db` in it.
    pub dir: tempfile::TempDir,
}

impl TempCatalog {
    /// On SQLite.
    ///
    /// # Errors
    /// When the folder or the store cannot be made.
    pub async fn sqlite() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let url = format!("sqlite://{}", dir.path().join("catalog.db").display());
        Self::open(url, dir, Options::default()).await
    }

    /// On PostgreSQL, in a database of its own on the server all tests of this process share.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn postgres() -> anyhow::Result<Self> {
        let url = Postgres::start()?.database()?;
        Self::open(url, tempfile::tempdir()?, Options::default()).await
    }

    /// One on each database, to run a test on both.
    ///
    /// # Errors
    /// As [`TempCatalog::sqlite`] and [`TempCatalog::postgres`].
    pub async fn both() -> anyhow::Result<[Self; 2]> {
        Self::both_with(Options::default()).await
    }

    /// The same with these bounds.
    ///
    /// # Errors
    /// As [`TempCatalog::both`].
    pub async fn both_with(options: Options) -> anyhow::Result<[Self; 2]> {
        let dir = tempfile::tempdir()?;
        let url = format!("sqlite://{}", dir.path().join("catalog.db").display());
        let sqlite = Self::open(url, dir, options.clone()).await?;
        let url = Postgres::start()?.database()?;
        Ok([sqlite, Self::open(url, tempfile::tempdir()?, options).await?])
    }

    async fn open(url: String, dir: tempfile::TempDir, options: Options) -> anyhow::Result<Self> {
        // Boxed, or the types of all tests that await it are too deep for the compiler.
        let catalog = Box::pin(Catalog::open(&url, options)).await.context("open the catalog")?;
        Box::pin(catalog.migrate()).await.context("migrate the catalog")?;
        Ok(Self { catalog, url, dir })
    }

    /// Closes the catalog and opens its store again, as after a restart.
    ///
    /// # Errors
    /// When it does not open.
    pub async fn reopen(&mut self) -> anyhow::Result<()> {
        self.catalog.close().await;
        self.catalog = Catalog::open(&self.url, Options::default()).await?;
        Ok(())
    }
}
