//! Coming from another server: its configuration through the command line, and machines by the line that
//! the server prints.

use std::collections::BTreeMap;
use std::process::Command;

use muster_testkit::{Server, ServerOptions};

use crate::support::{Ask, Told};

const FLEET: &str = r#"---
kind: query
spec: {name: USB devices, query: SELECT * FROM usb_devices, interval: 300, platform: linux}
---
kind: query
spec: {name: by hand, query: SELECT 1 AS one}
---
kind: label
spec: {name: Has SSH, query: SELECT 1 FROM processes WHERE name = 'sshd'}
---
kind: policy
spec: {name: Disk encrypted, query: SELECT 1 FROM disk_encryption WHERE encrypted = 1, team: Servers}
---
kind: team
spec:
  team:
    name: Servers
    secrets: [{secret: a-secret-of-fleet}]
    agent_options:
      config: {options: {logger_tls_period: 20}}
---
kind: config
spec:
  org_info: {org_name: Acme}
  agent_options:
    command_line_flags: {verbose: true}
    config:
      decorators: {load: [SELECT uuid AS host_uuid FROM system_info]}
"#;

const PACK: &str = r#"{
  // what an incident needs
  "platform": "posix",
  "queries": {
    "users": {"query": "SELECT * FROM users;", "interval": "600"},
    "odd": {"query": "", "interval": 60},
  },
}"#;

/// How many lines of a report have which outcome.
fn outcomes(server: &Server, args: &[&str]) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for line in server.list(args)? {
        *counts.entry(line["outcome"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

#[test]
fn what_another_server_was_configured_with_is_taken_over_once() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    let fleet = server.scratch().join("fleet.yml");
    std::fs::write(&fleet, FLEET)?;
    let fleet = fleet.display().to_string();

    let dry = outcomes(&server, &["import", "fleet", &fleet, "--dry-run"])?;
    assert_eq!(dry, counts([("imported", 10), ("changed", 3), ("skipped", 2)]));
    assert!(server.list(&["schedule", "list"])?.is_empty());
    assert!(server.list(&["osquery-config", "list"])?.is_empty());
    assert!(server.list(&["label", "list"])?.is_empty());

    assert_eq!(outcomes(&server, &["import", "fleet", &fleet])?, dry);
    let again = outcomes(&server, &["import", "fleet", &fleet])?;
    assert_eq!(again, counts([("unchanged", 10), ("changed", 3), ("skipped", 2)]));
    let told = server.tell(&["import", "fleet", &fleet])?;
    assert!(told.out.contains("fleet.yml:24"), "{}", told.out);

    std::fs::write(&fleet, FLEET.replace("interval: 300", "interval: 60"))?;
    let changed = outcomes(&server, &["import", "fleet", &fleet])?;
    assert_eq!(changed["updated"], 1);
    let schedules = server.list(&["schedule", "list"])?;
    let usb = schedules.iter().find(|one| one["name"] == "pack/Global/USB devices").unwrap();
    assert_eq!((&usb["interval_s"], &usb["mode"]), (&60.into(), &"snapshot".into()));

    let pack = server.scratch().join("ir.conf");
    std::fs::write(&pack, PACK)?;
    let pack = pack.display().to_string();
    let read = outcomes(&server, &["import", "osquery", &pack])?;
    assert_eq!(read, counts([("imported", 1), ("skipped", 1)]));
    let again = outcomes(&server, &["import", "osquery", &pack])?;
    assert_eq!(again, counts([("unchanged", 1), ("skipped", 1)]));

    std::fs::write(&pack, "{\n\"queries\": [}")?;
    assert!(server.refused(&["import", "osquery", &pack], 1)?.contains("ir.conf:2"));
    Ok(())
}

#[test]
fn the_printed_line_makes_a_machine_an_agent() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    let flags = server.tell(&["generate", "osquery-flags"])?;
    let port = server.agents_url().rsplit(':').next().unwrap().to_owned();
    assert!(flags.out.starts_with(&format!("--tls_hostname=localhost:{port}\n")), "{flags:?}");
    assert!(flags.err.contains("--server"), "{flags:?}");

    let line = server.tell(&["generate", "osquery-install"])?.out;
    let machine = server.scratch().join("machine");
    let run = |line: &str, secret: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("OSQUERY_DIR", &machine).env_remove("MUSTER_ENROL_SECRET");
        Told::by(shell, secret)
    };
    // With another CA than the one that was named nothing is fetched, let alone run.
    let wrong = line.replace("grep -q ", "grep -q 00");
    assert_ne!(run(&wrong, "mes_x\n")?.code, 0);
    assert!(!machine.exists());

    let told = run(&line, "mes_x\n")?;
    assert_eq!(told.code, 0, "{told:?}");
    let read = |name: &str| std::fs::read_to_string(machine.join(name));
    assert_eq!(read("enroll_secret")?, "mes_x\n");
    assert_eq!(
        read("ca.pem")?.trim(),
        std::fs::read_to_string(server.data_dir().join("ca.pem"))?.trim()
    );
    assert!(read("osquery.flags")?.contains("--config_tls_endpoint=/api/v1/osquery/config"));
    Ok(())
}
