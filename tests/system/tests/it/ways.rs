//! Ways to a server other than a straight one: through a proxy, and by IPv6.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use muster_testkit::{Server, ServerOptions, binary, steady_port};

use crate::join::{agents_online, invitation};
use crate::support::{AgentProcess, Ask, Told};

/// A proxy that opens tunnels (CONNECT), except to one place.
struct Tunnels {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    fn start(forbidden: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (known, forbidden) = (Arc::clone(&asked), forbidden.to_owned());
        // Ends with the process, as its tunnels do.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (known, forbidden) = (Arc::clone(&known), forbidden.clone());
                std::thread::spawn(move || tunnel(client, &known, &forbidden));
            }
        });
        Ok(Self { port, asked })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn tunnel(
    mut client: TcpStream,
    asked: &Mutex<Vec<String>>,
    forbidden: &str,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default();
    let by = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    asked.lock().unwrap().push(format!("{line} by {}", by.unwrap_or("nobody")));
    let place = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let Some(place) = place.filter(|place| *place != forbidden) else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    };
    let mut server = TcpStream::connect(place)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    let upwards = std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut server);
        let _ = server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut down, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = upwards.join();
    Ok(())
}

/// `muster agent join` of an agent whose folder is `name` in the server's own.
fn join(server: &Server, url: &str, name: &str) -> anyhow::Result<Command> {
    let (fingerprint, secret) = invitation(server)?;
    let mut command = Command::new(binary()?);
    command
        .args(["agent", "join", "--server", url, "--ca-sha256", &fingerprint])
        .arg("--data")
        .arg(server.scratch().join(name))
        .env("MUSTER_ENROL_SECRET", secret)
        .env("MUSTER_LOG__LEVEL", "error");
    Ok(command)
}

#[test]
fn an_agent_joins_and_answers_through_a_proxy() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions { args: vec!["--no-agent".into()], env: Vec::new() })?;
    let place = server.agents_url().trim_start_matches("https://").to_owned();
    let proxy = Tunnels::start("")?;
    let mut command = join(&server, &server.agents_url(), "agent")?;
    command.args(["--proxy", &format!("http://ann:p%40ss@127.0.0.1:{}", proxy.port)]);
    let agent = AgentProcess::spawn(command)?;
    agents_online(&server, 1)?;
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    let asked = proxy.asked();
    // The CA, the other servers, the enrolment and the link: each asks for this place, and says who asks.
    assert!(asked.len() >= 3, "{asked:?}");
    let tunnel = format!("CONNECT {place} HTTP/1.1 by Basic YW5uOnBAc3M=");
    assert!(asked.iter().all(|line| *line == tunnel), "{asked:?}");
    let known = server.list(&["agents"])?;
    assert_eq!(known[0]["last_address"], "127.0.0.1", "{known:?}");

    // The environment's proxy is for the way out, not for this machine. Who is refused is told by whom.
    let before = proxy.asked().len();
    let mut direct = join(&server, &server.agents_url(), "direct")?;
    direct.env("https_proxy", format!("http://127.0.0.1:{}", proxy.port));
    let direct = AgentProcess::spawn(direct)?;
    agents_online(&server, 2)?;
    assert_eq!(proxy.asked().len(), before);
    let strict = Tunnels::start(&place)?;
    let mut refused = join(&server, &server.agents_url(), "refused")?;
    refused.args(["--proxy", &format!("127.0.0.1:{}", strict.port)]);
    let told = Told::by(refused, "")?;
    assert_eq!(told.code, 5, "{told:?}");
    assert!(told.err.contains("proxy") && told.err.contains("403"), "{told:?}");
    drop((agent, direct));
    Ok(())
}

#[test]
fn people_and_agents_come_by_ipv6() -> anyhow::Result<()> {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return Ok(());
    }
    let (agents, operators) = (steady_port()?, steady_port()?);
    let server = Server::up(ServerOptions {
        env: vec![
            ("MUSTER_LISTENERS__AGENTS".into(), format!("[::1]:{agents}")),
            ("MUSTER_LISTENERS__OPERATORS".into(), format!("[::1]:{operators}")),
        ],
        args: vec!["--no-agent".into()],
    })?;
    let agent = AgentProcess::spawn(join(&server, &format!("https://[::1]:{agents}"), "six")?)?;
    // The context of `up` goes where the listener is.
    let contexts = std::fs::read_to_string(server.scratch().join("config/contexts.yaml"))?;
    assert!(contexts.contains(&format!("https://[::1]:{operators}")), "{contexts}");
    let online = agents_online(&server, 1)?;
    assert_eq!(online[0]["last_address"], "::1", "{online:?}");
    assert_eq!(server.list(&["query", "SELECT 1 AS one"])?.len(), 1);
    drop(agent);
    Ok(())
}
