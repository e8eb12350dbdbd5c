//! What hosts answer: made up, of realistic size.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::buffer::Source;
use super::host::Host;
use super::plan::Scheduled;

const USERS: usize = 20;

/// One answered query.
pub(super) struct Rows {
    json: String,
    status: u32,
    message: &'static str,
    wall_ms: u128,
}

/// How long a query takes; zero when all answer at once.
pub(super) fn time(longest_ms: u64) -> Duration {
    match longest_ms {
        0 => Duration::ZERO,
        most => Duration::from_millis(rand::random_range(1..=most)),
    }
}

/// The answer to a distributed query.
pub(super) fn distributed(
    host: &Host,
    id: &str,
    sql: &str,
    took: Duration,
    packages: usize,
    carve: Option<&String>,
) -> Rows {
    let lower = sql.to_ascii_lowercase();
    let (mut json, mut status, mut message) = (String::from("[]"), 0, "");
    if let Some(carve) = carve.filter(|_| lower.contains("carve")) {
        json = json!([{ "carve_guid": carve, "status": "SCHEDULED", "path": "/etc/hosts",
            "request_id": carve, "size": "-1", "carve": "1", "sha256": "", "time": "0" }])
        .to_string();
    } else if lower.contains("deb_packages") {
        json = software(host, packages);
    } else if lower.contains("from users") {
        json = users(host);
    } else if lower.trim() == "select 1" || lower.trim() == "select 1;" {
        json = "[{\"1\":\"1\"}]".to_owned();
    } else if lower.contains("no_such_table") {
        (status, message) = (1, "no such table: no_such_table");
    } else if lower.trim_start().starts_with("select 0") || (id.starts_with('h') && one_in(host, 5))
    {
        // Nothing found.
    } else {
        json = format!("[{}]", osquery_info(host, None));
    }
    Rows { json, status, message, wall_ms: took.as_millis() }
}

/// Whether a host is in the part that finds nothing; by its number, so that a count can be known.
fn one_in(host: &Host, of: u32) -> bool {
    host.number.is_multiple_of(of)
}

/// The body of a distributed write: the key comes last.
pub(super) fn write(answers: &BTreeMap<String, Rows>, key: &str) -> Vec<u8> {
    let mut body = String::from("{\"queries\":{");
    let each = |body: &mut String, one: &dyn Fn(&Rows) -> String| {
        for (n, (id, rows)) in answers.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(body, "{comma}{}:{}", Value::from(id.as_str()), one(rows));
        }
    };
    each(&mut body, &|rows| rows.json.clone());
    body.push_str("},\"statuses\":{");
    each(&mut body, &|rows| rows.status.to_string());
    body.push_str("},\"messages\":{");
    each(&mut body, &|rows| Value::from(rows.message).to_string());
    body.push_str("},\"stats\":{");
    each(&mut body, &|rows| {
        let ms = rows.wall_ms;
        format!("{{\"wall_time_ms\":{ms},\"user_time\":{ms},\"system_time\":1,\"memory\":4096}}")
    });
    let _ = write!(body, "}},\"node_key\":\"{key}\"}}");
    bytes(body)
}

/// Whether a discovery query gives a row.
pub(super) fn discovers(sql: &str) -> bool {
    let sql = sql.trim().to_ascii_lowercase();
    !sql.starts_with("select 0") && !sql.contains("no_such_table")
}

/// Twelve columns, about 420 bytes, as JSON. With a tag it can be told from all others.
fn osquery_info(host: &Host, tag: Option<&str>) -> String {
    let mut row = json!({
        "build_distro": "centos7", "build_platform": "linux", "config_hash":
        "3155e3e4a2b4a9d9d3b8a1e4f5c6d7e8f9a0b1c2", "config_valid": "1", "extensions": "active",
        "instance_id": tag.unwrap_or("67f0c3c4-1c3a-4a4a-9a5b-2f4f6f8f0f1f"), "pid": "11287",
        "platform_mask": "21", "start_time": "1696502961", "uuid": host.identifier(),
        "version": host.version(), "watcher": "11286"
    })
    .to_string();
    if host.is_dirty {
        // Replaced in the bytes when the line is built; a text cannot hold it.
        row = row.replace("\"extensions\":\"active\"", "\"extensions\":\"act\u{1}ve\"");
    }
    row
}

/// Puts a byte that is not UTF-8 where [`osquery_info`] left a mark.
fn bytes(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xFE);
    bytes
}

fn software(host: &Host, packages: usize) -> String {
    let mut json = String::with_capacity(packages * 200 + 2);
    json.push('[');
    for n in 0..packages {
        // A few differ from host to host, as they do.
        let own = if n < 20 { host.number % 7 } else { 0 };
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            json,
            "{comma}{{\"name\":\"lib-example-{n}\",\"version\":\"{}.{}.{own}-1ubuntu{}\",\
             \"source\":\"deb\",\"arch\":\"amd64\",\"vendor\":\"Ubuntu Developers\",\"path\":\"\",\
             \"installed_path\":\"\",\"extension_id\":\"\",\"browser\":\"\",\"username\":\"\"}}",
            n % 9,
            n % 31,
            n % 5
        );
    }
    json.push(']');
    json
}

fn users(host: &Host) -> String {
    let user = |n: usize| {
        json!({
            "uid": (1000 + n).to_string(), "gid": "1000", "username": format!("user{n}"),
            "description": format!("User {n} of {}", host.number),
            "directory": format!("/home/user{n}"), "shell": "/bin/bash", "type": ""
        })
    };
    Value::from((0..USERS).map(user).collect::<Vec<_>>()).to_string()
}

fn tag(host: &Host) -> String {
    format!("osq-{}-{}", host.number, host.tags.fetch_add(1, Relaxed))
}

fn frame(host: &Host, name: &str, now: u64, counter: u64, rest: &str) -> String {
    format!(
        "{{\"name\":{},\"hostIdentifier\":\"{}\",\"calendarTime\":\"Tue Sep 30 17:37:30 2014 UTC\",\
         \"unixTime\":{now},\"epoch\":0,\"counter\":{counter},\"numerics\":false,\
         \"decorations\":{{\"hostname\":\"{}\"}},{rest}}}",
        Value::from(name),
        host.identifier(),
        host.hostname()
    )
}

/// What a scheduled query logs in its run number `run`.
pub(super) fn scheduled(
    host: &Host,
    query: &Scheduled,
    run: u64,
    now: u64,
    lines: &mut Vec<(Source, Vec<u8>)>,
) {
    if query.snapshot {
        let rows: Vec<String> =
            (0..query.rows).map(|_| osquery_info(host, Some(&tag(host)))).collect();
        let rest = format!("\"action\":\"snapshot\",\"snapshot\":[{}]", rows.join(","));
        lines.push((Source::Scheduled, bytes(frame(host, &query.name, now, 0, &rest))));
        return;
    }
    for n in 0..query.rows {
        let row = osquery_info(host, Some(&tag(host)));
        let rest = format!("\"columns\":{row},\"action\":\"added\"");
        // Differential results are escaped by the agent: no bad bytes in them.
        let rest = rest.replace('\u{1}', "\\\\xFE");
        lines.push((Source::Scheduled, frame(host, &query.name, now, run, &rest).into_bytes()));
        if n == 0 && run > 0 && query.removed {
            let gone = osquery_info(host, Some("gone")).replace('\u{1}', "\\\\xFE");
            let rest = format!("\"columns\":{gone},\"action\":\"removed\"");
            lines.push((Source::Scheduled, frame(host, &query.name, now, run, &rest).into_bytes()));
        }
    }
}

/// A snapshot line that no schedule of the server's asked for, as agents bring them from elsewhere.
pub(super) fn line(host: &Host, now: u64) -> Vec<u8> {
    let row = osquery_info(host, Some(&tag(host)));
    let rest = format!("\"action\":\"snapshot\",\"snapshot\":[{row}]");
    bytes(frame(host, "loadgen_osquery_info", now, 0, &rest))
}

/// A snapshot line of 100 KB to 1 MB, less what agents drop for being too long; all of its rows have the
/// line's tag.
pub(super) fn large(host: &Host, now: u64) -> Vec<u8> {
    let row = osquery_info(host, Some(&tag(host)));
    let most = (900 << 10) / row.len();
    let rows = vec![row; rand::random_range(most / 9..=most)].join(",");
    let rest = format!("\"action\":\"snapshot\",\"snapshot\":[{rows}]");
    bytes(frame(host, "loadgen_large", now, 0, &rest))
}

/// A status line.
pub(super) fn status(host: &Host, now: u64) -> Vec<u8> {
    json!({
        "hostIdentifier": host.identifier(), "calendarTime": "Tue Sep 30 17:37:30 2014 UTC",
        "unixTime": now, "severity": 0, "filename": "scheduler.cpp", "line": 109,
        "message": format!("Executing scheduled query {}", tag(host)), "version": host.version()
    })
    .to_string()
    .into_bytes()
}
