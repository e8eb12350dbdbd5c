use super::*;
use crate::import::tests::report;

fn no_file(path: &str) -> Result<String, String> {
    Err(format!("{path}: no such file"))
}

fn variable(name: &str) -> Result<String, String> {
    let missing = || format!("its text is in ${name}, which is not set in the environment");
    (name == "SET_SECRET").then(|| "from-the-environment".to_owned()).ok_or_else(missing)
}

fn around<'a>(load: &'a dyn Fn(&str) -> Result<String, String>) -> Surroundings<'a> {
    Surroundings { load, variable: &variable }
}

const APPLY: &str = r#"---
apiVersion: v1
kind: query
spec:
  name: USB devices
  description: What is plugged in
  query: SELECT * FROM usb_devices;
  interval: 300
  platform: darwin,linux
  min_osquery_version: 5.4.0
  logging: differential_ignore_removals
---
apiVersion: v1
kind: query
spec:
  name: by hand
  query: |
    SELECT name: -- a comment
    FROM users
---
apiVersion: v1
kind: query
spec: {name: packed, query: SELECT 1, interval: 0}
---
apiVersion: v1
kind: query
spec:
  name: of a team
  team: Workstations & more
  query: SELECT 2
  interval: 60
---
apiVersion: v1
kind: pack
spec:
  name: base
  targets:
    labels: [macOS, All Linux]
  queries:
    - query: packed
      name: one
      interval: 60
      snapshot: true
      platform: linux
    - query: nowhere
      interval: 60
---
apiVersion: v1
kind: pack
spec:
  name: off
  disabled: true
  targets: {labels: [Engineering]}
  queries:
    - {query: packed, interval: 600, removed: false}
---
apiVersion: v1
kind: label
spec:
  name: Has SSH
  query: SELECT 1 FROM processes WHERE name = 'sshd'
  platform: linux
---
apiVersion: v1
kind: label
spec:
  name: Engineering
  label_membership_type: manual
  hosts: [db7, web1]
---
apiVersion: v1
kind: policy
spec:
  name: Disk encrypted
  query: SELECT 1 FROM disk_encryption WHERE encrypted = 1
  resolution: Switch it on.
  platform: darwin
  critical: true
---
apiVersion: v1
kind: enroll_secret
spec:
  secrets:
    - secret: abcdefghijkl
    - secret: $NOT_SET
---
apiVersion: v1
kind: config
spec:
  org_info: {org_name: Acme}
  agent_options:
    command_line_flags: {verbose: true}
    config:
      options:
        logger_tls_period: 10
        pack_delimiter: /
        disable_distributed: false
      decorators:
        load: [SELECT uuid AS host_uuid FROM system_info]
    overrides:
      platforms:
        darwin:
          options: {logger_tls_period: 60}
---
apiVersion: v1
kind: team
spec:
  team:
    name: Servers
    secrets: [{secret: $SET_SECRET}]
    agent_options:
      config:
        options: {distributed_interval: 30}
---
apiVersion: v1
kind: user_roles
spec: {roles: {}}
"#;

#[test]
fn documents_of_fleetctl() {
    let import = read("fleet.yml", APPLY, &around(&no_file)).unwrap();
    insta::assert_snapshot!(report(&import));
}

#[test]
fn a_gitops_file_with_those_it_names() {
    let text = r#"name: Workstations
policies:
  - path: ../lib/policies.yml
  - name: inline
    query: SELECT 1
    run_script: {path: fix.sh}
queries:
  - name: uptime
    query: SELECT * FROM uptime
    interval: 3600
    labels_include_any: [x]
reports:
  - name: listening
    query: SELECT * FROM listening_ports
    interval: 3600
    automations_enabled: false
    labels_exclude_any: [Old hosts]
  - paths: ../lib/*.yml
agent_options:
  path: ../lib/options.yml
team_settings:
  secrets:
    - secret: one-of-a-team
  features: {enable_host_users: true}
controls:
  macos_updates: {}
software:
"#;
    let load = |path: &str| {
        match path {
        "../lib/policies.yml" => Ok("- name: Firewall\n  query: SELECT 1 FROM alf WHERE global_state >= 1\n  platform: darwin\n- query: SELECT 2\n".to_owned()),
        "../lib/options.yml" => Ok("config:\n  options:\n    logger_tls_period: 20\n  schedule:\n    own: {query: SELECT 3, interval: 60}\n".to_owned()),
        path => no_file(path),
    }
    };
    let import = read("teams/w.yml", text, &around(&load)).unwrap();
    insta::assert_snapshot!(report(&import));
}

#[test]
fn what_is_neither_form_is_refused() {
    let error = read("x.yml", "a: 1\n", &around(&no_file)).unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
    let error = read("x.yml", "a: [\n", &around(&no_file)).unwrap_err();
    assert!(error.to_string().starts_with("x.yml:"), "{error}");
}

#[test]
fn names_of_labels_are_made_to_fit() {
    use super::target::{label_name, team_label};
    assert_eq!(label_name("Has SSH"), "Has-SSH");
    assert_eq!(label_name("  (x) "), "x");
    assert_eq!(team_label("Work & Play"), "team:Work-Play");
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[ -~\n]{0,200}") {
        let _ = read("x", &text, &around(&no_file));
        let _ = read("x", &format!("{APPLY}{text}"), &around(&no_file));
    }
}
