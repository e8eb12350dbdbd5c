//! People, their passwords and tokens, and the log of what they did.

use anyhow::Context;
use muster_catalog::{Args, Catalog, Options, Priority, statements};
use muster_testkit::{Server, ServerOptions};
use serde_json::{Value, json};

use crate::support::{Ask, post};

statements! {
    /// What somebody with access to the file might try.
    pub small FORGE = "UPDATE audit SET outcome = 'ok' WHERE outcome = 'denied'";
}

const PASSWORD: &str = "four wheels and a plank";

/// A context of its own for somebody, signed in with the password that was chosen over the API.
fn sign_in(server: &Server, name: &str, one_time: &str) -> anyhow::Result<()> {
    let body = json!({"name": name, "password": one_time});
    let (status, session) = post(server, "/v1/login", None, &body)?;
    assert_eq!((status, &session["must_change"]), (200, &json!(true)), "{session}");
    let token = session["token"].as_str();
    let (status, problem) = post(server, "/v1/queries", token, &json!({"query": "SELECT 1"}))?;
    assert_eq!(status, 403, "{problem}");
    let body = json!({"current_password": one_time, "new_password": PASSWORD});
    let (status, problem) = post(server, "/v1/password", token, &body)?;
    assert_eq!(status, 204, "{problem}");

    let ca = server.data_dir().join("ca.pem");
    let (address, ca) = (server.operators_url(), ca.display().to_string());
    server.ok(&["context", "set", name, "--address", &address, "--ca", &ca])?;
    server.refused(&["whoami", "--context", name], 3)?;
    let told = server
        .tell_with(&["login", name, "--password-stdin", "--context", name], "not the password\n")?;
    assert_eq!(told.code, 3, "{told:?}");
    let told = server.tell_with(
        &["login", name, "--password-stdin", "--context", name],
        &format!("{PASSWORD}\n"),
    )?;
    assert_eq!(told.code, 0, "{told:?}");
    server.ok(&["context", "use", "local"])?;
    let me = server.json(&["whoami", "--context", name])?;
    assert_eq!(me["name"], name, "{me}");
    Ok(())
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    Ok(value[key].as_str().with_context(|| format!("{key} in {value}"))?.to_owned())
}

#[test]
fn people_tokens_and_the_audit_log() -> anyhow::Result<()> {
    let mut server =
        Server::up(ServerOptions { args: vec!["--no-agent".into()], ..Default::default() })?;
    let made = server.json(&["user", "create", "vera", "--role", "viewer"])?;
    sign_in(&server, "vera", &text(&made, "one_time_password")?)?;

    let hunt = ["hunt", "start", "linux.processes", "--context", "vera"];
    let err = server.refused(&hunt, 1)?;
    assert!(err.contains("needs the role analyst"), "{err}");
    server.ok(&["endpoints", "--context", "vera"])?;
    server.refused(&["user", "list", "--context", "vera"], 1)?;
    server.refused(&["hunt", "begin"], 2)?;
    server.refused(&["endpoints", "--context", "nobody"], 2)?;
    server.ok(&["context", "set", "away", "--address", "https://127.0.0.1:1"])?;
    server.ok(&["context", "use", "local"])?;
    server.refused(&["endpoints", "--context", "away"], 5)?;

    tokens(&server)?;
    the_locked_out_administrator(&mut server)?;
    the_audit_log(&mut server)
}

fn tokens(server: &Server) -> anyhow::Result<()> {
    let made = server.json(&["token", "create", "ci", "--role", "viewer", "--expires", "1day"])?;
    let (token, no) = (text(&made, "token")?, made["no"].to_string());
    let ask = json!({"query": "SELECT 1", "dry_run": true});
    let (status, problem) = post(server, "/v1/queries", Some(&token), &ask)?;
    assert_eq!(status, 403, "a viewer's token: {problem}");
    server.ok(&["token", "revoke", &no, "--yes"])?;
    let (status, _) = post(server, "/v1/queries", Some(&token), &ask)?;
    assert_eq!(status, 401);
    let listed = server.list(&["token", "list"])?;
    assert!(!listed.iter().any(|item| item.to_string().contains(&token)), "{listed:?}");
    Ok(())
}

fn the_locked_out_administrator(server: &mut Server) -> anyhow::Result<()> {
    server.stop()?;
    let data = server.data_dir().display().to_string();
    server.refused(&["user", "reset", "nobody", "--data", &data], 1)?;
    let told = server.ok(&["user", "reset", "admin", "--data", &data])?;
    let password = told.lines().next().and_then(|line| line.split_whitespace().last());
    let password = password.context("a password")?.to_owned();
    server.start()?;
    sign_in(server, "admin", &password)?;
    server.ok(&["user", "list", "--context", "admin"])?;
    Ok(())
}

fn the_audit_log(server: &mut Server) -> anyhow::Result<()> {
    let records = server.list(&["audit", "list"])?;
    for operation in ["login", "users.create", "tokens.create", "users.reset", "hunts.create"] {
        assert!(records.iter().any(|r| r["operation"] == operation), "{operation}: {records:?}");
    }
    assert!(records.iter().any(|r| r["outcome"] == "denied" && r["principal"] == "vera"));
    let secret = records.iter().find(|record| record.to_string().contains(PASSWORD));
    assert_eq!(secret, None);
    let verdict = server.json(&["audit", "verify"])?;
    assert_eq!(verdict["intact"], true, "{verdict}");

    server.stop()?;
    let url = format!("sqlite://{}", server.data_dir().join("catalog.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let forged = runtime.block_on(async {
        let catalog = Catalog::open(&url, Options::default()).await?;
        let forged = catalog.execute(Priority::Api, &FORGE, Args::default()).await?;
        catalog.close().await;
        anyhow::Ok(forged)
    })?;
    assert!(forged > 0);
    server.start()?;
    let told = server.tell(&["audit", "verify", "-o", "json"])?;
    assert_eq!(told.code, 1, "{told:?}");
    let verdict: Value = serde_json::from_str(&told.out)?;
    assert!(verdict["broken_at"]["seq"].as_i64() > Some(0), "{verdict}");
    let findings = server.tell(&["doctor"])?;
    assert_eq!(findings.code, 1, "{findings:?}");
    assert!(findings.out.contains("audit"), "{findings:?}");
    Ok(())
}
