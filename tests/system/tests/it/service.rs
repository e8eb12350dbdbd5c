//! What a service manager is told, and what those who read the log get.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_testkit::{Server, ServerOptions, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Ask, SOON};

/// The whole lines of the log, each of which has to be JSON; what else is printed is the banner.
fn log(server: &Server) -> anyhow::Result<Vec<Value>> {
    let output = server.output();
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_service_manager_is_told_and_the_log_is_json_at_the_level_asked_for() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (socket, file) = (dir.path().join("notify"), dir.path().join("muster.yaml"));
    let manager = UnixDatagram::bind(&socket)?;
    manager.set_read_timeout(Some(SOON))?;
    let told = || -> anyhow::Result<String> {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).context("nothing was told")?;
        Ok(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
    };
    let level =
        |text: &str| std::fs::write(&file, format!("log: {{level: {text}, format: json}}\n"));
    level("error")?;
    let mut server = Server::up(ServerOptions {
        env: vec![("NOTIFY_SOCKET".into(), socket.display().to_string())],
        args: vec!["--no-agent".into(), "--config".into(), file.display().to_string()],
    })?;
    assert_eq!(told()?, "READY=1");
    let is_loud = |line: &Value| line["level"] != "ERROR";
    assert!(!log(&server)?.iter().any(is_loud), "{}", server.output());

    let pid = i32::try_from(server.pid().context("it runs")?)?;
    let pid = Pid::from_raw(pid).context("a process id")?;
    let says = |words: &str| {
        wait_for(words, SOON, || {
            Ok(log(&server)?.into_iter().find(|line| message(line).contains(words)))
        })
    };
    level("info")?;
    kill_process(pid, Signal::HUP)?;
    let line = says("certificates and log level are reloaded")?;
    assert_eq!(line["level"], "INFO", "{line}");
    assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
    // A slip of the pen changes nothing, and is named.
    std::fs::write(&file, "log: {levle: debug}\n")?;
    kill_process(pid, Signal::HUP)?;
    let line = says("everything stays as it is")?;
    assert!(message(&line).contains("levle"), "{line}");
    level("info")?;

    manager.set_read_timeout(Some(Duration::from_secs(30)))?;
    assert_eq!(server.stop()?.code(), Some(0));
    assert_eq!(told()?, "STOPPING=1");
    Ok(())
}

/// An upgrade in place: the package's new program is there before the old process has ended.
#[test]
fn a_server_whose_program_file_is_replaced_answers_on() -> anyhow::Result<()> {
    let mut server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    server.stop()?;
    let program = server.scratch().join("muster");
    std::fs::copy(muster_testkit::binary()?, &program)?;
    let like = server.command()?;
    let mut command = muster_testkit::dying(&program);
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["up", "--data"]).arg(server.data_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = muster_testkit::spawn(command)?;
    wait_for("it to be ready", SOON, || {
        Ok(server.health("/readyz").is_ok_and(|answer| answer.contains(" 200 ")).then_some(()))
    })?;
    server.agent_online()?;
    std::fs::rename(&program, program.with_extension("old"))?;
    std::fs::write(&program, "not a program\n")?;
    std::fs::remove_file(program.with_extension("old"))?;
    // The agent's questions and SQL both run in children of the program.
    let told = server.tell(&["query", "SELECT 1 AS one", "-o", "csv"])?;
    ensure!((told.code, &*told.out) == (0, "one\n1\n"), "{told:?}");
    if let Some(rows) = server.sql("SELECT count(*) AS n FROM collections")? {
        ensure!(rows == [serde_json::json!({"n": 1})], "{rows:?}");
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}
