//! What the command line promises everywhere: rows on standard output and nothing else there, questions
//! before something goes, and the words that other programs have taught.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use muster_testkit::{Server, ServerOptions, binary, wait_for};
use serde_json::{Value, json};

use crate::join::{agents_online, invitation, join};
use crate::support::{AgentProcess, Ask, SOON, Told};

#[test]
fn what_goes_is_asked_for_and_told() -> anyhow::Result<()> {
    let server = no_agent()?;
    let file = server.scratch().join("rules.yar");
    std::fs::write(&file, "rule a { condition: false }")?;
    let config = server.scratch().join("part.json");
    std::fs::write(&config, r#"{"options": {"verbose": true}}"#)?;
    let (file, config) = (file.display().to_string(), config.display().to_string());
    server.ok(&["label", "create", "old"])?;
    server.ok(&["yara", "set", "rules", "-f", &file])?;
    server.ok(&["osquery-config", "set", "part", "-f", &config])?;
    let secret = server.json(&["enrolment", "add", "spare"])?["no"].to_string();
    let token = server.json(&["token", "add", "spare"])?["no"].to_string();
    server.ok(&["policy", "create", "empty", "--sql", "SELECT 1", "--label", "old"])?;
    server.ok(&["schedule", "create", "often", "--query", "SELECT 1", "--pack", "own"])?;
    server.ok(&["context", "set", "spare", "--address", "https://127.0.0.1:1"])?;
    server.ok(&["context", "use", "local"])?;

    let edited = server.json(&["policy", "edit", "empty", "--label", "", "--platform", ""])?;
    assert_eq!((&edited["labels"], &edited["platforms"]), (&json!([]), &json!([])), "{edited}");
    let shown = server.json(&["schedule", "show", "often"])?;
    assert_eq!(shown["name"], "pack/own/often", "{shown}");

    for command in [
        ["label", "delete", "old"],
        ["yara", "delete", "rules"],
        ["osquery-config", "remove", "part"],
        ["enrolment", "revoke", &secret],
        ["token", "revoke", &token],
        ["policy", "delete", "empty"],
        ["schedule", "delete", "often"],
        ["context", "remove", "spare"],
    ] {
        let err = server.refused(&command, 2)?;
        assert!(err.contains("--yes"), "{command:?}: {err}");
        let told = server.tell(&[&command[..], &["--yes"]].concat())?;
        assert_eq!((told.code, &*told.out), (0, ""), "{command:?}: {told:?}");
        assert!(!told.err.is_empty(), "{command:?} says nothing");
    }
    let labels = server.list(&["label", "list"])?;
    assert!(!labels.iter().any(|label| label["name"] == "old"), "{labels:?}");
    Ok(())
}

#[test]
fn lists_are_lists_also_when_they_are_empty() -> anyhow::Result<()> {
    let mut server = no_agent()?;
    assert_eq!(server.list(&["agents", "--kind", "osquery", "--clones"])?, Vec::<Value>::new());
    server.refused(&["agents", "--kind", "none"], 2)?;
    assert_eq!(server.list(&["approval", "list"])?, Vec::<Value>::new());
    let err = server.refused(&["approval", "deny", "7", "--reason", "no"], 1)?;
    assert!(err.contains('7'), "{err}");
    assert_eq!(server.list(&["doctor"])?, Vec::<Value>::new());
    let told = server.tell(&["doctor"])?;
    assert_eq!((&*told.out, &*told.err), ("", "nothing is wrong\n"));

    let data = server.data_dir().display().to_string();
    assert_eq!(server.list(&["doctor", "--data", &data])?, Vec::<Value>::new());
    let shards = server.list(&["shard", "list", "--data", &data])?;
    assert!(shards.iter().all(|row| row["state"] == "folded"), "{shards:?}");
    let backups = server.scratch().join("backups").display().to_string();
    for _ in 0..3 {
        server.ok(&["backup", &backups, "--data", &data])?;
    }
    let listed = server.list(&["backup", "list", &backups])?;
    assert_eq!(listed.len(), 3);
    server.refused(&["backup", "prune", &backups, "--keep", "0"], 2)?;
    server.refused(&["backup", "prune", &backups, "--keep", "1"], 2)?;
    let removed = server.ok(&["backup", "prune", &backups, "--keep", "1", "--yes"])?;
    assert_eq!(removed.lines().count(), 2, "{removed}");
    assert_eq!(server.list(&["backup", "list", &backups])?, listed[2..]);
    server.ok(&["backup", "verify", &backups])?;

    server.stop()?;
    let file = server.scratch().join("muster.yaml");
    std::fs::write(&file, format!("data_dir: {data}\n"))?;
    let mut reset = server.command()?;
    reset.args(["user", "reset", "admin", "-o", "json"]).env("MUSTER_CONFIG", &file);
    let told = Told::by(reset, "")?;
    let answer: Value = serde_json::from_str(&told.out).with_context(|| format!("{told:?}"))?;
    assert!(answer["one_time_password"].is_string(), "{answer}");
    Ok(())
}

/// `muster server` keeps the CAs beside its other files and says which one signs.
#[test]
fn a_server_without_a_banner_leaves_its_cas() -> anyhow::Result<()> {
    let mut server = no_agent()?;
    let ca = server.data_dir().join("ca.pem");
    let pem = std::fs::read_to_string(&ca)?;
    server.stop()?;
    std::fs::remove_file(&ca)?;
    let log = std::fs::File::create(server.scratch().join("log"))?;
    let mut command = server.command()?;
    command.args(["server", "--data"]).arg(server.data_dir());
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let found = wait_for("ca.pem", SOON, || Ok(ca.exists().then_some(())));
    let ready = wait_for("the server", SOON, || {
        let answer = server.health("/readyz");
        Ok(answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")).then_some(()))
    });
    child.kill()?;
    child.wait()?;
    let log = std::fs::read_to_string(server.scratch().join("log"))?;
    found.and(ready).with_context(|| log.clone())?;
    assert_eq!(std::fs::read_to_string(&ca)?, pem);
    assert_eq!(std::fs::metadata(&ca)?.permissions().mode() & 0o777, 0o644);
    assert_eq!(log.matches("the CA that signs").count(), 1, "{log}");
    Ok(())
}

#[test]
fn a_machine_changes_its_server_by_leaving_first() -> anyhow::Result<()> {
    let (first, second) = (Server::up(ServerOptions::default())?, no_agent()?);
    let ((old, old_secret), (new, new_secret)) = (invitation(&first)?, invitation(&second)?);
    let data = first.scratch().join("machine");
    let path = data.display().to_string();
    let agent = AgentProcess::spawn(join(&first, &data, &old, &old_secret)?)?;
    agents_online(&first, 2)?;
    let leave = |args: &[&str]| -> anyhow::Result<Told> {
        let mut command = Command::new(binary()?);
        command.args(["agent", "leave", "--data", &path]).args(args);
        Told::by(command, "")
    };
    let told = leave(&["--yes"])?;
    assert!(told.code == 1 && told.err.contains("another agent is using"), "{told:?}");
    agent.kill();

    let told = Told::by(join(&second, &data, &new, &new_secret)?, "")?;
    assert_eq!(told.code, 1, "{told:?}");
    for words in ["of a server with another CA", "`muster agent leave --data", "then join again"] {
        assert!(told.err.contains(words), "{words}: {told:?}");
    }
    // Nothing was changed by asking.
    let agent = AgentProcess::spawn(join(&first, &data, &old, &old_secret)?)?;
    agents_online(&first, 2)?;
    agent.kill();

    let told = leave(&[])?;
    assert!(told.code == 2 && told.err.contains("--yes"), "{told:?}");
    let told = leave(&["--yes"])?;
    ensure!(told.code == 0 && told.out.contains("agent.key"), "{told:?}");
    assert!(!data.join("identity.json").exists() && !data.join("ca.pem").exists());
    let _agent = AgentProcess::spawn(join(&second, &data, &new, &new_secret)?)?;
    agents_online(&second, 1)?;
    Ok(())
}

/// The CA has followed another while the machine was off: it is the same agent of the same server.
#[test]
fn a_machine_that_missed_a_new_ca_joins_again_as_itself() -> anyhow::Result<()> {
    let server = no_agent()?;
    let (old, secret) = invitation(&server)?;
    let data = server.scratch().join("machine");
    let agent = AgentProcess::spawn(join(&server, &data, &old, &secret)?)?;
    let number = agents_online(&server, 1)?[0]["no"].clone();
    agent.kill();

    let added = server.json(&["ca", "add"])?["no"].to_string();
    server.ok(&["ca", "sign", &added, "--leave-behind", "--yes"])?;
    let cas = server.list(&["ca", "list"])?;
    let signs = cas.iter().find(|ca| ca["signs"] == true).context("one signs")?;
    let new = signs["fingerprint"].as_str().context("a fingerprint")?;
    let file = server.scratch().join("new.pem");
    std::fs::write(&file, signs["certificate"].as_str().context("a certificate")?)?;
    let (file, url) = (file.display().to_string(), server.operators_url());
    server.ok(&["context", "set", "new", "--address", &url, "--ca", &file])?;
    server.ok(&["context", "use", "local"])?;
    // Nobody is signed in there, but the server is believed.
    wait_for("certificates of the new CA", SOON, || {
        Ok((server.tell(&["agents", "--context", "new"])?.code == 3).then_some(()))
    })?;

    let _agent = AgentProcess::spawn(join(&server, &data, new, &secret)?)?;
    assert_eq!(agents_online(&server, 1)?[0]["no"], number);
    Ok(())
}

fn no_agent() -> anyhow::Result<Server> {
    Server::up(ServerOptions { args: vec!["--no-agent".into()], ..Default::default() })
}
