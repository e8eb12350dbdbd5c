//! Start to serving, and memory of an idle server, with many enrolled agents.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use muster_catalog::{Catalog, Priority, args};
use muster_testkit::{Server, ServerOptions};
use serde_json::json;

use crate::measure::{self, Memory};

/// Sizes of the run.
#[derive(Args)]
pub struct Options {
    /// How many agents are enrolled.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// How often it is started.
    #[arg(long, default_value_t = 7)]
    starts: usize,
}

/// Agents written in one transaction.
const BATCH: u32 = 10_000;

muster_catalog::statements! {
    /// As an enrolment writes them; numbers `$1` to `$2`. Only for the embedded database.
    ENDPOINTS = "WITH RECURSIVE number (n) AS (
            SELECT $1
            UNION ALL
            SELECT n + 1 FROM number WHERE n < $2)
        INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        SELECT n, 1, printf('host-%06d.example.net', n), lower(hex(randomblob(16))), $3, NULL, $4
        FROM number";
    AGENTS = "WITH RECURSIVE number (n) AS (
            SELECT $1
            UNION ALL
            SELECT n + 1 FROM number WHERE n < $2)
        INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        SELECT n, 1, n, 'native', lower(hex(randomblob(32))), randomblob(32), 'active',
            printf('host-%06d.example.net', n), 'linux', 'Debian GNU/Linux', printf('12.%d', n % 10),
            'x86_64', '0.1.0', 'sql', $3, printf('10.%d.%d.%d', n / 65536, n / 256 % 256, n % 256),
            NULL, $3, $3, printf('10.%d.%d.%d', n / 65536, n / 256 % 256, n % 256), NULL, NULL, $4
        FROM number";
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut server = Server::up(ServerOptions {
        env: vec![("MUSTER_LOG__LEVEL".to_owned(), "error".to_owned())],
        args: vec!["--no-agent".to_owned()],
    })?;
    server.stop()?;
    println!(
        "| enrolled | starts | to ready ms, median | min | max | idle MB | not of files | load |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    series(&server, 0, options.starts)?;
    let began = Instant::now();
    let url = format!("sqlite://{}", server.data_dir().join("catalog.db").display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill(&url, options.agents))?;
    eprintln!("{} agents written in {:.1} s", options.agents, began.elapsed().as_secs_f64());
    series(&server, options.agents, options.starts)
}

async fn fill(url: &str, agents: u32) -> anyhow::Result<()> {
    let catalog = Catalog::open(url, muster_catalog::Options::default()).await?;
    let mut first = 1;
    while first <= agents {
        let last = agents.min(first + BATCH - 1);
        let mut tx = catalog.begin(Priority::Api).await?;
        let change = tx.bump("directory").await?;
        tx.bump_by("number/agent", i64::from(last + 1 - first)).await?;
        tx.bump_by("number/endpoint", i64::from(last + 1 - first)).await?;
        let now = tx.now().await?;
        tx.execute(&ENDPOINTS, args![first, last, now, change]).await?;
        tx.execute(&AGENTS, args![first, last, now, change]).await?;
        tx.commit().await?;
        first = last + 1;
    }
    catalog.close().await;
    Ok(())
}

/// Starts it so many times, and prints one line.
fn series(server: &Server, agents: u32, starts: usize) -> anyhow::Result<()> {
    let (mut times, mut idle) = (Vec::new(), Memory::default());
    for _ in 0..starts {
        let (time, memory) = start(server)?;
        times.push(time.as_secs_f64() * 1e3);
        if memory.resident_bytes > idle.resident_bytes {
            idle = memory;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let (median, min, max) = (at(starts / 2), at(0), at(starts.saturating_sub(1)));
    let (resident, anonymous) =
        (idle.resident_bytes as f64 / 1e6, idle.anonymous_bytes as f64 / 1e6);
    let load = measure::load();
    println!(
        "| {agents} | {starts} | {median:.0} | {min:.0} | {max:.0} | {resident:.1} | {anonymous:.1} | {load:.1} |"
    );
    println!("{}", json!({ "agents": agents, "ready_ms": times, "idle": idle }));
    Ok(())
}

/// From exec to the first 200 of `/readyz`, and the resident memory some seconds later.
fn start(server: &Server) -> anyhow::Result<(Duration, Memory)> {
    let mut command = server.command()?;
    command.args(["up", "--no-agent", "--data"]).arg(server.data_dir());
    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    while !is_ready(server.ports()[2]) {
        ensure!(child.try_wait()?.is_none(), "the server ended");
        ensure!(began.elapsed() < Duration::from_secs(60), "the server is not ready");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    // Longer than freed memory takes to go back to the kernel.
    std::thread::sleep(Duration::from_secs(12));
    let memory = measure::memory(child.id())?;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("end it")?;
    child.wait()?;
    Ok((took, memory))
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}
