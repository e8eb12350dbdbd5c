//! New certificates and old links: SIGHUP, and a CA that follows another.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use muster_testkit::{Server, ServerOptions, wait_for};
use rustls::RootCertStore;
use tokio_rustls::TlsConnector;

use crate::join::{agents_online, invitation, join};
use crate::support::{AgentProcess, Ask, SOON, Told, roots};

/// The certificate a listener shows now.
fn shown(server: &Server, port: u16) -> anyhow::Result<Vec<u8>> {
    shown_to(roots(server)?, port)
}

/// The same to somebody who trusts these.
fn shown_to(roots: RootCertStore, port: u16) -> anyhow::Result<Vec<u8>> {
    let config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let chain = tls.get_ref().1.peer_certificates().context("no certificate")?;
        Ok(chain[0].to_vec())
    })
}

#[test]
fn a_hangup_renews_certificates_and_keeps_links() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    let [operators, agents, _] = server.ports();
    server.agent_online()?;
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    let before = [shown(&server, operators)?, shown(&server, agents)?];
    let sessions = server.metric("muster_gateway_sessions")?;
    let pid = i32::try_from(server.pid().context("it runs")?)?;
    let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    wait_for("new certificates", SOON, || {
        let after = [shown(&server, operators)?, shown(&server, agents)?];
        Ok((after[0] != before[0] && after[1] != before[1]).then_some(()))
    })?;
    assert_eq!(server.metric("muster_gateway_sessions")?, sessions);
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    server.ok(&["whoami"])?;
    Ok(())
}

/// The CAs an agent was told, as its data folder has them.
fn told(data: &Path) -> usize {
    let kept = std::fs::read_to_string(data.join("server-cas.json")).unwrap_or_default();
    kept.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_ca_follows_another_and_agents_and_people_go_along() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions {
        env: vec![("MUSTER_AGENTS__PING_INTERVAL".into(), "2s".into())],
        args: Vec::new(),
    })?;
    let (old, secret) = invitation(&server)?;
    let dir = tempfile::tempdir()?;
    let joined = dir.path().join("second");
    let agent = AgentProcess::spawn(join(&server, &joined, &old, &secret)?)?;
    agents_online(&server, 2)?;
    let datas = [server.data_dir().join("agent/data"), joined.clone()];
    let all_told = |count: usize| {
        wait_for("agents to be told of the CAs", SOON, || {
            Ok(datas.iter().all(|data| told(data) == count).then_some(()))
        })
    };
    let everybody_answers = || -> anyhow::Result<()> {
        // Two agents of one machine, which is asked once.
        agents_online(&server, 2)?;
        assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
        Ok(())
    };
    let [operators, agents, _] = server.ports();
    let of_old = roots(&server)?;

    // Two CAs are trusted; nothing else is different.
    server.ok(&["ca", "add"])?;
    all_told(2)?;
    assert_eq!(server.ok(&["ca", "show"])?.matches("BEGIN CERTIFICATE").count(), 2);
    shown_to(of_old.clone(), agents)?;
    let refused = server.refused(&["ca", "sign", "2", "--yes"], 1)?;
    assert!(refused.contains("2 agents may not have been told"), "{refused}");

    // The second one signs: links stay, new ones come about by it, the command line goes along.
    server.ok(&["ca", "sign", "2", "--yes", "--leave-behind"])?;
    wait_for("certificates of the second CA", SOON, || {
        let shown = [operators, agents].map(|port| shown_to(of_old.clone(), port));
        Ok(shown.iter().all(Result::is_err).then_some(()))
    })?;
    everybody_answers()?;
    agent.kill();
    let agent = AgentProcess::run_trusting(&server, &joined, &joined.join("ca.pem"))?;
    everybody_answers()?;

    // The first one goes: its links are made anew, and nobody believes it any more.
    server.ok(&["ca", "retire", "1", "--yes"])?;
    all_told(1)?;
    everybody_answers()?;
    let cas = server.list(&["ca", "list"])?;
    assert_eq!((cas.len(), &cas[0]["no"]), (1, &serde_json::json!(2)));
    let pem = wait_for("the CA in the data folder", SOON, || {
        let pem = std::fs::read_to_string(server.data_dir().join("ca.pem"))?;
        Ok((pem.matches("BEGIN CERTIFICATE").count() == 1).then_some(pem))
    })?;
    assert_eq!(server.ok(&["ca", "show"])?, pem);

    // Who joins now does so by the fingerprint of the second.
    let by_old = Told::by(join(&server, &dir.path().join("late"), &old, &secret)?, "")?;
    assert_eq!(by_old.code, 5, "{by_old:?}");
    let new = cas[0]["fingerprint"].as_str().context("a fingerprint")?.replace(':', "");
    let late = AgentProcess::spawn(join(&server, &dir.path().join("late"), &new, &secret)?)?;
    agents_online(&server, 3)?;
    drop((agent, late));
    Ok(())
}
