//! A second machine's agent: joined by fingerprint, killed, copied.

use std::path::Path;
use std::process::Command;

use muster_testkit::{Server, ServerOptions, binary, wait_for};
use serde_json::Value;

use crate::support::{AgentProcess, Ask, SOON, Told};

/// `muster agent join` as the banner prints it.
pub fn join(
    server: &Server,
    data: &Path,
    fingerprint: &str,
    secret: &str,
) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .args(["agent", "join", "--server", &server.agents_url(), "--ca-sha256", fingerprint])
        .arg("--data")
        .arg(data)
        .env("MUSTER_ENROL_SECRET", secret)
        .env("MUSTER_LOG__LEVEL", "error");
    Ok(command)
}

/// Fingerprint and secret out of the banner.
pub fn invitation(server: &Server) -> anyhow::Result<(String, String)> {
    let line = wait_for("the line that enrols", SOON, || {
        let output = server.output();
        Ok(output.lines().find(|line| line.contains("MUSTER_ENROL_SECRET=")).map(str::to_owned))
    })?;
    let secret = line.split_once('=').unwrap().1.split_whitespace().next().unwrap();
    Ok((line.split_whitespace().last().unwrap().to_owned(), secret.to_owned()))
}

/// The agents once there are so many, all of them online.
pub fn agents_online(server: &Server, count: usize) -> anyhow::Result<Vec<Value>> {
    wait_for("agents to be online", SOON, || {
        let agents = server.list(&["agents"])?;
        let online = agents.iter().filter(|agent| agent["online"] == true).count();
        Ok((agents.len() == count && online == count).then_some(agents))
    })
}

#[test]
fn an_agent_joins_is_killed_and_copied() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    agents_online(&server, 1)?;
    let (fingerprint, secret) = invitation(&server)?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);

    let other = "ab".repeat(32);
    let told = Told::by(join(&server, &path("other"), &other, &secret)?, "")?;
    assert_eq!(told.code, 5, "{told:?}");
    assert!(told.err.contains(&fingerprint), "{told:?}");
    assert!(!path("other").join("ca.pem").exists());

    let refused = "muster_gateway_refused_total{reason=\"enrolment\"}";
    let before = server.metric(refused)?;
    let mut enrol = Command::new(binary()?);
    enrol
        .args(["agent", "enrol", "--server", &server.agents_url(), "--ca"])
        .arg(server.data_dir().join("ca.pem"))
        .arg("--data")
        .arg(path("wrong"))
        .env("MUSTER_ENROL_SECRET", "mes_wrong");
    let told = Told::by(enrol, "")?;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("secret"), "{told:?}");
    assert!(server.metric(refused)? > before);
    assert_eq!(server.list(&["agents"])?.len(), 1);

    let agent = AgentProcess::spawn(join(&server, &path("second"), &fingerprint, &secret)?)?;
    let both = agents_online(&server, 2)?;
    let number = both[1]["no"].clone();

    agent.kill();
    wait_for("the killed agent to be offline", SOON, || {
        let agents = server.list(&["agents"])?;
        Ok(agents
            .iter()
            .any(|agent| agent["no"] == number && agent["online"] == false)
            .then_some(()))
    })?;
    let agent = AgentProcess::run(&server, &path("second"))?;
    let both = agents_online(&server, 2)?;
    assert!(both.iter().any(|agent| agent["no"] == number), "{both:?}");

    // A disk image of it starts elsewhere while the original runs.
    copy(&path("second"), &path("copy"))?;
    let copied = AgentProcess::run(&server, &path("copy"))?;
    let three = agents_online(&server, 3)?;
    let clone = three.iter().find(|agent| agent["clone_of"] == number);
    let clone = clone.unwrap_or_else(|| panic!("no clone of {number} in {three:?}"))["no"].clone();
    assert_ne!(clone, number);
    assert_eq!(server.metric("muster_gateway_clones_total")?, 1.0);
    // Each of the two is itself from now on.
    drop((agent, copied));
    let _agents =
        [AgentProcess::run(&server, &path("second"))?, AgentProcess::run(&server, &path("copy"))?];
    agents_online(&server, 3)?;
    Ok(())
}

/// A folder with what is in it.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
