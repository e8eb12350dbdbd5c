//! A volume that really is full. Needs the right to mount a small one; says so when it has not.

use std::path::Path;
use std::process::Command;

use muster_catalog::{Catalog, Error, Options, Priority, args, statements};

statements! {
    PUT = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, 0)";
    small COUNT = "SELECT count(*) AS n FROM secret";
}

struct Volume(tempfile::TempDir);

impl Volume {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(dir.path());
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn refuses_reads_on_and_recovers() {
    let Some(volume) = Volume::mount("size=4m") else {
        eprintln!("not tested: mounting a volume is not allowed here");
        return;
    };
    let url = format!("sqlite://{}", volume.path().join("catalog.db").display());
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    let ballast = volume.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();

    let mut committed = 0;
    let full = loop {
        let put = args![format!("s{committed}"), vec![1_u8; 16 << 10]];
        match catalog.execute(Priority::Api, &PUT, put).await {
            Ok(_) => committed += 1,
            Err(error) => break error,
        }
        assert!(committed < 1000, "the volume never fills");
    };
    assert!(matches!(full, Error::DiskFull), "{full:?}");
    // Many at once find the same, and none is believed to be stored.
    let again = (0..8).map(|n| {
        let put = args![format!("again{n}"), vec![1_u8; 64 << 10]];
        catalog.execute(Priority::Api, &PUT, put)
    });
    for result in futures_util::future::join_all(again).await {
        assert!(matches!(result, Err(Error::DiskFull)), "{result:?}");
    }
    let count = async |catalog: &Catalog| -> i64 {
        catalog.fetch_optional(&COUNT, args![]).await.unwrap().unwrap().get("n").unwrap()
    };
    assert_eq!(count(&catalog).await, committed);

    std::fs::remove_file(&ballast).unwrap();
    catalog.execute(Priority::Api, &PUT, args!["after", b"x"]).await.unwrap();
    catalog.close().await;
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    assert_eq!(count(&catalog).await, committed + 1);
    catalog.close().await;
}
