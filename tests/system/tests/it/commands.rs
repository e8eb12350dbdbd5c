//! Commands that no other test goes through, against a real server with its own agent.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use muster_testkit::{Server, ServerOptions, wait_for};

use crate::support::{Ask, SOON, companion};

const OWN: &str = "\
name: custom.accounts.by_shell
title: Accounts with a shell
description: |
  Accounts whose login shell is the one that is asked for.
parameters:
  - {name: shell, type: text, default: /bin/bash, description: a path}
columns:
  - {name: username, type: text}
  - {name: shell, type: text}
sources:
  native:
    query: SELECT username, shell FROM users WHERE shell = :shell
";

#[test]
fn an_artifact_of_ones_own_is_checked_added_collected_and_deleted() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    let file = server.scratch().join("own.yaml");
    let path = file.display().to_string();
    std::fs::write(&file, OWN.replace("columns:", "colums:"))?;
    for command in [["artifact", "check", &path], ["artifact", "add", &path]] {
        let told = server.tell(&command)?;
        assert_ne!(told.code, 0, "{told:?}");
        assert!(told.err.contains("colums"), "{told:?}");
    }
    std::fs::write(&file, OWN)?;
    server.ok(&["artifact", "check", &path])?;
    server.ok(&["artifact", "add", &path])?;
    let name = "custom.accounts.by_shell";
    let listed = server.list(&["artifact", "list", "by_shell"])?;
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &name.into()), "{listed:?}");
    let shown = server.json(&["artifact", "show", name])?;
    assert_eq!(shown["built_in"], false, "{shown}");

    let endpoint = server.list(&["endpoints"])?[0]["name"].as_str().context("a name")?.to_owned();
    let shell = "/usr/sbin/nologin";
    let expected = std::fs::read_to_string("/etc/passwd")?;
    let expected = expected.lines().filter(|line| line.ends_with(&format!(":{shell}"))).count();
    assert!(expected > 0, "Debian has such accounts");
    let rows = server.list(&["collect", name, &endpoint, "--param", &format!("shell={shell}")])?;
    assert_eq!(rows.len(), expected, "{rows:?}");
    assert!(rows.iter().all(|row| row["shell"] == shell), "{rows:?}");
    let wrong = server.tell(&["collect", name, &endpoint, "--param", "shel=x"])?;
    assert!(wrong.code != 0 && wrong.err.contains("shel"), "{wrong:?}");
    let unknown = server.tell(&["collect", name, "no-such-endpoint"])?;
    assert!(unknown.code != 0 && unknown.err.contains("no-such-endpoint"), "{unknown:?}");

    let err = server.refused(&["artifact", "delete", name], 2)?;
    assert!(err.contains("--yes"), "{err}");
    server.ok(&["artifact", "delete", name, "--yes"])?;
    assert_ne!(server.tell(&["artifact", "show", name])?.code, 0);
    let storage = server.json(&["storage"])?;
    assert!(storage.to_string().contains("bytes"), "{storage}");
    Ok(())
}

#[test]
fn a_query_is_ended_at_its_limits_and_the_agent_goes_on() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    let agent = companion(&server)?;
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";
    let zeros = "SELECT length(hex(zeroblob(499000000))) AS x".to_owned();
    // Only the first is to run out of time.
    for (sql, time, outcome, words) in [
        (format!("{endless} SELECT max(x) AS x FROM n"), "3s", "timed_out", "time limit"),
        (format!("{endless} SELECT x FROM n"), "2m", "failed", "limit"),
        (zeros, "2m", "failed", "memory"),
    ] {
        let hunt = server.hunt(&["--sql", &sql, "--task-timeout", time, "--canary", "0"])?;
        let ended = wait_for("the limit", 3 * SOON, || {
            std::thread::sleep(Duration::from_millis(200));
            Ok(Some(server.coverage(hunt)?).filter(|coverage| coverage.is_complete(1)))
        })?;
        assert_eq!(ended.get(outcome), 1, "{sql}: {ended:?}");
        let said = format!("SELECT message FROM collections WHERE hunt = {hunt}");
        if let Some(said) = server.sql(&said)? {
            let message = said[0]["message"].as_str().unwrap_or_default();
            assert!(message.contains(words), "{sql}: {message}");
        }
        assert_eq!(companion(&server)?, agent, "{sql}: the agent is another process");
    }
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    Ok(())
}

#[test]
fn shells_complete_the_commands() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions { args: vec!["--no-agent".into()], env: Vec::new() })?;
    for shell in ["bash", "zsh", "fish"] {
        let script = server.ok(&["completions", shell])?;
        for word in ["endpoints", "hunt", "outcomes", "retire"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        if shell == "bash" {
            let mut check = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn()?;
            std::io::Write::write_all(
                &mut check.stdin.take().context("a pipe")?,
                script.as_bytes(),
            )?;
            assert!(check.wait()?.success());
        }
    }
    Ok(())
}
