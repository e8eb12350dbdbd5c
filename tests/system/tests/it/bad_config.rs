//! What cannot work is refused with a sentence that helps.

use std::process::Command;

use muster_testkit::{Server, ServerOptions, binary};

use crate::support::Told;

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("muster.yaml");
    let data = dir.path().join("data");
    std::fs::write(&file, "listenerz:\n  agents: '127.0.0.1:0'\n")?;
    for command in [&["server"][..], &["up"], &["config", "check"]] {
        let mut muster = Command::new(binary()?);
        muster.args(command).arg("--config").arg(&file).arg("--data").arg(&data);
        let told = Told::by(muster, "")?;
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.err.contains("did you mean \"listeners\"?"), "{told:?}");
        assert!(told.err.contains("muster.yaml"), "{told:?}");
    }
    assert!(!data.exists());
    Ok(())
}

#[test]
fn the_environment_is_checked_as_well() -> anyhow::Result<()> {
    let mut muster = Command::new(binary()?);
    muster.args(["config", "check"]).env("MUSTER_STREAM__QUOTA", "8 GB");
    let told = Told::by(muster, "")?;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("stream.quota") && told.err.contains("GiB"), "{told:?}");
    Ok(())
}

#[test]
fn one_data_folder_serves_one_server() -> anyhow::Result<()> {
    let server =
        Server::up(ServerOptions { args: vec!["--no-agent".into()], ..Default::default() })?;
    let mut second = server.command()?;
    for listener in ["OPERATORS", "AGENTS", "METRICS"] {
        second.env(format!("MUSTER_LISTENERS__{listener}"), "127.0.0.1:0");
    }
    second.args(["up", "--no-agent", "--data"]).arg(server.data_dir());
    let told = Told::by(second, "")?;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("another"), "{told:?}");
    // The first one is none the worse.
    server.ok(&["whoami"])?;
    Ok(())
}
