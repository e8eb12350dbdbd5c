//! The first hour with `muster up`: what it prints, what it answers, and that it keeps everything.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use muster_testkit::{Server, ServerOptions, steady_ports, wait_for};
use serde_json::Value;

use crate::support::{Ask, SOON};

const QUESTION: &str =
    "SELECT pid, name, cmdline FROM processes ORDER BY resident_size DESC LIMIT 5";

/// What follows `label` on its line of the banner.
fn after<'a>(banner: &'a str, label: &str) -> &'a str {
    let line = banner.lines().find_map(|line| line.trim_start().strip_prefix(label));
    line.unwrap_or_else(|| panic!("no line {label:?} in\n{banner}")).trim()
}

fn banner(server: &Server) -> anyhow::Result<String> {
    wait_for("the banner", SOON, || {
        Ok(Some(server.output()).filter(|output| output.contains("Ctrl-C stops it")))
    })
}

/// A server whose first port is taken by this very process.
fn up_beside(taken: &TcpListener) -> anyhow::Result<Server> {
    let port = taken.local_addr()?.port();
    Server::up(ServerOptions {
        env: vec![(
            "MUSTER_LISTENERS__OPERATORS".into(),
            format!("127.0.0.1:{port}-{}", port + 20),
        )],
        args: Vec::new(),
    })
}

#[test]
fn the_first_hour() -> anyhow::Result<()> {
    let taken = TcpListener::bind(("127.0.0.1", steady_ports(21)?))?;
    let port = taken.local_addr()?.port();
    let mut server = up_beside(&taken)?;
    let first = banner(&server)?;
    the_banner_tells_all(&server, &first, port);
    // The banner waits for this machine's agent for three seconds only.
    server.agent_online()?;
    the_context_is_private(&server)?;
    four_formats(&server)?;
    questions_from_elsewhere(&server)?;
    let hunt = a_mistake_is_explained(&server)?;
    let endpoints = server.list(&["endpoints"])?;
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");

    assert_eq!(server.stop()?.code(), Some(0), "{}", server.output());
    assert!(server.output().contains("everything is kept in"), "{}", server.output());
    let err = server.refused(&["whoami"], 5)?;
    assert!(err.contains("localhost"), "{err}");

    drop(taken);
    server.start()?;
    let second = banner(&server)?;
    assert_eq!(after(&second, "CA"), after(&first, "CA"));
    assert!(!second.contains("one-time password"), "{second}");
    assert!(!second.contains("is used by"), "{second}");
    let again = server.list(&["endpoints"])?;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["no"], endpoints[0]["no"]);
    let history = server.list(&["history"])?;
    let asked = history.iter().filter(|item| item.to_string().contains("resident_size DESC"));
    assert_eq!(asked.count(), 4, "{history:?}");
    assert!(history.iter().any(|item| item["no"] == hunt), "{history:?}");
    if server.sql("SELECT 1 AS one")?.is_some() {
        let kept = server.list(&["results", "1"])?;
        assert_eq!(kept.len(), 5, "{kept:?}");
        assert!(kept[0]["pid"].is_i64() && kept[0]["name"].is_string(), "{kept:?}");
        let cost = "SELECT status, user_us + system_us AS cpu_us, memory_bytes FROM collections \
                    WHERE hunt = 1";
        let cost = server.sql(cost)?.context("there is an engine")?;
        assert!(cost[0]["cpu_us"].as_u64() > Some(0), "{cost:?}");
        assert!(cost[0]["memory_bytes"].as_u64() > Some(1 << 20) && cost[0]["status"].is_null());
    }
    // And it still answers.
    assert_eq!(server.list(&["query", QUESTION])?.len(), 5);
    Ok(())
}

fn the_banner_tells_all(server: &Server, banner: &str, port: u16) {
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let skipped = format!("port {port} is used by {} (pid {})", own.trim(), std::process::id());
    assert!(banner.contains(&skipped), "{skipped} in\n{banner}");
    let address = after(banner, "address");
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    assert!(!address.starts_with(&format!("https://127.0.0.1:{port} ")), "{address}");
    assert!(after(banner, "data").starts_with(&server.data_dir().display().to_string()));
    assert!(banner.contains(concat!("Muster ", env!("CARGO_PKG_VERSION"), " is running.")));
    let fingerprint = after(banner, "CA").trim_start_matches("SHA-256 ");
    assert_eq!(fingerprint.split(':').count(), 32, "{fingerprint}");
    assert!(after(banner, "sign in").starts_with("admin, one-time password "));
    let root = rustix::process::geteuid().is_root();
    assert_eq!(after(banner, "runs as") == "root", root);
    let enrol = after(banner, "MUSTER_ENROL_SECRET=");
    assert!(enrol.contains("agent join --server https://"), "{enrol}");
    assert!(enrol.ends_with(&fingerprint.replace(':', "").to_lowercase()), "{enrol}");
    for command in ["query \"SELECT", "hunt start linux.", "sql \"SELECT"] {
        assert!(banner.contains(command), "{command} in\n{banner}");
    }
}

fn the_context_is_private(server: &Server) -> anyhow::Result<()> {
    let path = server.scratch().join("config/contexts.yaml");
    let mode = std::fs::metadata(&path).context("the context")?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let data = std::fs::metadata(server.data_dir())?.permissions().mode();
    assert_eq!(data & 0o777, 0o700);
    Ok(())
}

fn four_formats(server: &Server) -> anyhow::Result<()> {
    let table = server.ok(&["query", QUESTION])?;
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.lines().next().unwrap().contains("CMDLINE"), "{table}");
    let rows = server.list(&["query", QUESTION])?;
    assert_eq!(rows.len(), 5);
    for row in &rows {
        let pid = row["pid"].as_i64().context("a pid")?;
        assert!(pid > 0 && row["name"].is_string(), "{row}");
    }
    let lines = server.ok(&["query", QUESTION, "-o", "ndjson"])?;
    let parsed = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(parsed.len(), 5);
    let csv = server.ok(&["query", QUESTION, "-o", "csv"])?;
    assert_eq!(csv.lines().next(), Some("pid,name,cmdline"));
    assert!(csv.lines().count() >= 6, "{csv}");
    Ok(())
}

fn questions_from_elsewhere(server: &Server) -> anyhow::Result<()> {
    let file = server.scratch().join("question.sql");
    std::fs::write(&file, "SELECT 1 AS one\nUNION ALL SELECT 2;\n")?;
    let rows = server.list(&["query", "-f", &file.display().to_string()])?;
    assert_eq!(rows.len(), 2);
    let told = server.tell_with(&["query", "-o", "csv"], "SELECT 'from stdin' AS origin;\n")?;
    assert_eq!((told.code, told.out.as_str()), (0, "origin\nfrom stdin\n"));
    Ok(())
}

/// The number of the question.
fn a_mistake_is_explained(server: &Server) -> anyhow::Result<u64> {
    let told = server.tell(&["query", "SELECT * FROM proceses"])?;
    assert_eq!((told.code, told.out.trim()), (1, ""), "{told:?}");
    assert!(told.err.contains("no such table: proceses"), "{told:?}");
    assert!(told.err.contains("did you mean processes"), "{told:?}");
    let number = told.err.rsplit_once("(hunt ").and_then(|(_, rest)| rest.split_once(')'));
    Ok(number.context("the number of the hunt")?.0.parse()?)
}
