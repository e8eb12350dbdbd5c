//! SIGHUP: new certificates, old links.

use std::sync::Arc;

use anyhow::Context;
use muster_testkit::{Server, ServerOptions, wait_for};
use tokio_rustls::TlsConnector;

use crate::support::{Ask, SOON, roots};

/// The certificate a listener shows now.
fn shown(server: &Server, port: u16) -> anyhow::Result<Vec<u8>> {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots(server)?)
        .with_no_client_auth();
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
