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

/// Files that an imported file names are those below its folder; others, and variables, only when asked for.
#[test]
fn an_imported_file_does_not_decide_what_is_read() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions {
        env: vec![("TEST_FLEET_SECRET".to_owned(), "a-secret-of-the-environment".to_owned())],
        ..ServerOptions::default()
    })?;
    let folder = server.scratch().join("given");
    std::fs::create_dir_all(folder.join("packs"))?;
    let pack = r#"{"queries": {"one": {"query": "SELECT 1", "interval": 60}}}"#;
    let elsewhere = server.scratch().join("elsewhere.conf");
    std::fs::write(&elsewhere, pack)?;
    std::fs::write(folder.join("packs/own.conf"), pack)?;
    std::os::unix::fs::symlink("own.conf", folder.join("packs/same.conf"))?;
    std::os::unix::fs::symlink(&elsewhere, folder.join("packs/link.conf"))?;
    std::os::unix::fs::symlink(server.scratch(), folder.join("packs/out"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )?;
    let absolute = serde_json::to_string(&elsewhere)?;
    let config = format!(
        r#"{{"packs": {{
"own": "packs/own.conf",
"same": "./packs/same.conf",
"link": "packs/link.conf",
"through": "packs/out/elsewhere.conf",
"up": "../elsewhere.conf",
"down-up": "packs/../../elsewhere.conf",
"absolute": {absolute},
"many": "packs/*.conf",
"pipe": "pipe",
"gone": "packs/gone.conf"
}}}}"#
    );
    let file = folder.join("osquery.conf");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let report = |args: &[&str]| -> anyhow::Result<BTreeMap<u64, (String, String)>> {
        let mut lines = BTreeMap::new();
        for told in server.list(args)? {
            let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
            let line = text("at").rsplit(':').next().unwrap_or_default().parse().unwrap_or(0);
            if text("outcome") == "skipped" {
                lines.insert(line, (text("what"), text("reason")));
            }
        }
        Ok(lines)
    };
    let skipped = report(&["import", "osquery", &file])?;
    assert_eq!(skipped.keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10, 11]);
    for (line, reason) in [
        (4, "a link leads out of the folder"),
        (5, "a link leads out of the folder"),
        (6, "is not below the folder"),
        (7, "is not below the folder"),
        (8, "is not below the folder"),
        (9, "names several files"),
        (10, "is no regular file"),
        (11, "No such file"),
    ] {
        assert!(skipped[&line].1.contains(reason), "{line}: {:?}", skipped[&line]);
    }
    let names = |schedules: Vec<serde_json::Value>| -> Vec<String> {
        let mut names: Vec<_> =
            schedules.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    };
    let made = names(server.list(&["schedule", "list"])?);
    assert_eq!(made, ["pack/own/one", "pack/same/one"]);
    let skipped = report(&["import", "osquery", &file, "--allow-outside"])?;
    assert_eq!(skipped.keys().copied().collect::<Vec<_>>(), [9, 10, 11]);
    assert_eq!(server.list(&["schedule", "list"])?.len(), 7);

    std::fs::write(server.scratch().join("lib.yml"), "- {name: P, query: SELECT 1}\n")?;
    let gitops = folder.join("team.yml");
    std::fs::write(
        &gitops,
        "name: T\npolicies:\n  - path: ../lib.yml\n  - paths: ./*.yml\nteam_settings:\n  secrets:\n    - secret: $TEST_FLEET_SECRET\n    - secret: x-${TEST_NOT_SET}\n    - secret: plain-text\n",
    )?;
    let gitops = gitops.display().to_string();
    let skipped = report(&["import", "fleet", &gitops])?;
    assert_eq!(skipped.keys().copied().collect::<Vec<_>>(), [3, 4, 7, 8], "{skipped:?}");
    assert!(skipped[&3].1.contains("--allow-outside"), "{skipped:?}");
    assert!(skipped[&7].1.contains("--env") && !skipped[&7].1.contains("a-secret"), "{skipped:?}");
    assert_eq!(outcomes(&server, &["import", "fleet", &gitops])?["unchanged"], 2);
    let skipped = report(&["import", "fleet", &gitops, "--allow-outside", "--env"])?;
    assert_eq!(skipped.keys().copied().collect::<Vec<_>>(), [4, 8], "{skipped:?}");
    assert!(skipped[&8].1.contains("$TEST_NOT_SET, which is not set"), "{skipped:?}");
    let secrets = names(server.list(&["enrolment", "list"])?);
    assert!(secrets.iter().any(|name| name == "team:T 1"), "{secrets:?}");
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
