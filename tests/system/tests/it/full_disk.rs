//! A full disk: intake is refused and counted, people still sign in and delete, and when there is
//! space again nothing has been lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use muster_testkit::{Server, ServerOptions, wait_for};

use serde_json::json;

use crate::support::{Ask, Fleet, SOON, post};

/// A small volume; `None` where this user may not mount one.
struct Volume(PathBuf);

impl Volume {
    fn mount(at: &Path, size: &str) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let option = format!("size={size},mode=0700");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(at).output();
        Ok(mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned())))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Takes all free space but `left`.
fn fill(volume: &Path, left: u64) -> anyhow::Result<PathBuf> {
    let file = volume.join("filler");
    let free = {
        let stat = rustix::fs::statvfs(volume)?;
        stat.f_bavail * stat.f_frsize
    };
    ensure!(free > left, "{free} bytes are free already");
    let opened = std::fs::File::create(&file)?;
    rustix::fs::fallocate(&opened, rustix::fs::FallocateFlags::empty(), 0, free - left)?;
    Ok(file)
}

#[test]
fn a_full_disk() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(volume) = Volume::mount(&dir.path().join("volume"), "768m")? else {
        println!("skipped: a volume cannot be mounted by this user");
        return Ok(());
    };
    let server = Server::up_in(
        volume.0.join("data"),
        ServerOptions {
            env: vec![
                ("MUSTER_STREAM__RESERVE".into(), "64 MiB".into()),
                ("MUSTER_AGENTS__ENROLMENTS_PER_SECOND".into(), "5000".into()),
            ],
            args: vec!["--no-agent".into()],
        },
    )?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "30", "--canned", "5"])?;
    fleet.up(30, 30)?;
    let question = ["--sql", "SELECT pid, name FROM processes", "--canary", "0"];
    let first = server.hunt(&question)?;
    server.covered(first, "all to answer", |c| c.is_complete(30))?;
    server.ok(&["hunt", "stop", &first.to_string()])?;

    let filler = fill(&volume.0, 32 << 20)?;
    wait_for("intake to stop", SOON, || {
        Ok((server.metric("muster_stream_stopped")? == 1.0).then_some(()))
    })?;
    let refused = "muster_gateway_refused_total{reason=\"stream_full\"}";
    let before = server.metric(refused)?;
    let second = server.hunt(&question)?;
    wait_for("answers to be refused", SOON, || {
        Ok((server.metric(refused)? > before).then_some(()))
    })?;
    let coverage = server.coverage(second)?;
    assert!(coverage.sums(), "{coverage:?}");
    assert_eq!(coverage.get("rows"), 0, "{coverage:?}");
    // People go on: signing in writes, deleting writes.
    let made = server.json(&["user", "create", "vera"])?;
    let password = made["one_time_password"].as_str().context("a password")?;
    let (status, session) =
        post(&server, "/v1/login", None, &json!({"name": "vera", "password": password}))?;
    assert_eq!((status, session["token"].is_string()), (200, true), "{session}");
    server.ok(&["hunt", "delete", &first.to_string(), "--yes"])?;
    // Instances report of themselves once a minute.
    wait_for("the doctor to be told", 2 * SOON, || {
        let doctor = server.tell(&["doctor"])?;
        Ok((doctor.code == 1 && doctor.out.contains("intake stops")).then_some(()))
    })?;

    std::fs::remove_file(filler)?;
    let all = server.covered(second, "what was refused to come again", |c| c.is_complete(30))?;
    assert_eq!((all.get("rows"), all.get("row_count")), (30, 150), "{all:?}");
    assert_eq!(server.metric("muster_stream_stopped")?, 0.0);
    drop((fleet, server));
    Ok(())
}
