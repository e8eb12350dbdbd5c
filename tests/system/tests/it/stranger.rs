//! Somebody who reaches the NATS servers and has no key of the installation: what they say on the bus
//! commands no agent and uncovers no rows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use muster_testkit::{Nats, Server, wait_for};
use serde_json::Value;

use crate::nats::options;
use crate::support::{Ask, Fleet, SOON};

const AGENTS: u64 = 3;
const ROWS: u64 = 2;
const SQL: &str = "SELECT pid, name FROM processes";
const HUNTS: &str = "muster.b.t.hunts";
/// How far the numbers of a forged hunt are from those of true ones.
const FAR: u64 = 1_000_000;

/// A client of NATS, of which this protocol needs little.
struct Stranger {
    socket: BufReader<TcpStream>,
}

impl Stranger {
    fn connect(nats: &Nats) -> anyhow::Result<Self> {
        let url = nats.url();
        let socket = TcpStream::connect(url.trim_start_matches("nats://"))?;
        socket.set_read_timeout(Some(SOON))?;
        let mut stranger = Self { socket: BufReader::new(socket) };
        stranger.say(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        Ok(stranger)
    }

    fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.get_mut().write_all(bytes)?)
    }

    fn listen(&mut self, subject: &str) -> anyhow::Result<()> {
        self.say(format!("SUB {subject} 1\r\n").as_bytes())?;
        self.heard().map(drop)
    }

    fn publish(&mut self, subject: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.say(format!("PUB {subject} {}\r\n", payload.len()).as_bytes())?;
        self.say(payload)?;
        self.say(b"\r\n")
    }

    /// What came since the last call.
    fn heard(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        self.say(b"PING\r\n")?;
        let mut heard = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(self.socket.read_line(&mut line)? > 0, "NATS has closed the connection");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("PONG") => return Ok(heard),
                Some("MSG") => {
                    let length: usize = words.next_back().context("a length")?.parse()?;
                    let mut payload = vec![0; length + 2];
                    self.socket.read_exact(&mut payload)?;
                    payload.truncate(length);
                    heard.push(payload);
                }
                Some("-ERR") => anyhow::bail!("NATS says {line}"),
                _ => {}
            }
        }
    }
}

fn start(nats: &Nats) -> anyhow::Result<(Server, Fleet)> {
    let server = Server::up(options(nats))?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "3", "--canned", "2", "--task-times"])?;
    fleet.up(AGENTS, AGENTS)?;
    Ok((server, fleet))
}

/// Asks all agents and has their rows.
fn ask(server: &Server) -> anyhow::Result<()> {
    let mut last = None;
    let all = wait_for("all to answer", SOON, || {
        let told = server.tell(&["query", SQL, "--yes", "-o", "csv"])?;
        let rows = (told.out.lines().count() as u64).saturating_sub(1);
        // A binary without its SQL engine ends with 4: it cannot look for rows that were missed.
        let all = matches!(told.code, 0 | 4) && rows == AGENTS * ROWS;
        last = Some(told);
        Ok(all.then_some(()))
    });
    all.with_context(|| format!("{last:?}"))
}

fn newest_hunt(server: &Server) -> anyhow::Result<u64> {
    let hunts = server.list(&["hunt", "list"])?;
    hunts.iter().filter_map(|hunt| hunt["no"].as_u64()).max().context("there is a hunt")
}

/// The parts of a hint about hunts: tag and bytes of each change.
fn parts(content: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut rest = content.strip_prefix(&[1])?;
    let mut parts = Vec::new();
    while let Some((tag, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        parts.push((*tag, part.to_vec()));
        rest = after;
    }
    Some(parts)
}

/// A hunt nobody asked, made from a true one: another number, `ahead` in the feed of hunts, and the next
/// wave.
fn forged(true_parts: &[(u8, Vec<u8>)], ahead: u64) -> anyhow::Result<Vec<u8>> {
    let mut content = vec![1];
    for (tag, part) in true_parts {
        let mut part = part.clone();
        if *tag == b'h' {
            let mut row: Value = serde_json::from_slice(&part)?;
            let number = |name: &str| row[name].as_u64().with_context(|| format!("{name}: {row}"));
            let (no, change) = (number("no")?, number("change")?);
            (row["no"], row["change"]) = ((no + FAR).into(), (change + ahead).into());
            part = serde_json::to_vec(&row)?;
        } else {
            for (at, more) in [(0, 1), (8, FAR)] {
                let field = part.get_mut(at..at + 8).context("numbers of a wave")?;
                let value = u64::from_le_bytes(field.try_into()?) + more;
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        content.push(*tag);
        content.extend(u32::try_from(part.len())?.to_le_bytes());
        content.extend(part);
    }
    Ok(content)
}

#[test]
fn a_forged_hint_commands_no_agent() -> anyhow::Result<()> {
    let nats = Nats::start()?;
    let (server, mut fleet) = start(&nats)?;
    let mut stranger = Stranger::connect(&nats)?;
    stranger.listen(HUNTS)?;
    ask(&server)?;
    // Questions can be overheard: a version, from version 2 on a MAC, and the content.
    let (hint, question) = stranger
        .heard()?
        .into_iter()
        .rev()
        .find_map(|hint| {
            let begins = if hint.first() == Some(&1) { 1 } else { 33 };
            let parts = parts(hint.get(begins..)?)?;
            (parts.iter().map(|(tag, _)| *tag).eq(*b"hw")).then_some((hint, parts))
        })
        .context("a hint with a question and its wave")?;
    let no = newest_hunt(&server)?;
    let received = "muster_nats_hints_received_total";
    let before = server.metric(received)?;
    let mut said = 0.0;
    let mac = &hint[1..hint.len().min(33)];
    // The last as instances wrote it before they sealed anything.
    for head in [&[&[2], mac].concat()[..], &[&[2][..], &[0; 32]].concat(), &[1]] {
        // The feed of hunts may have gone on a little.
        for ahead in 1..=8 {
            stranger.publish(HUNTS, &[head, &forged(&question, ahead)?].concat())?;
            said += 1.0;
        }
    }
    stranger.heard()?;
    wait_for("the server to hear it", SOON, || {
        Ok((server.metric(received)? >= before + said).then_some(()))
    })?;
    let honest = ask(&server);
    if honest.is_ok() {
        // A link has its tasks in order: who tells of this one has told of those before.
        let last = newest_hunt(&server)?;
        fleet.say("report")?;
        wait_for("the fleet to tell of tasks", SOON, || Ok(fleet.task_time(last)))?;
    }
    for no in 1..=no {
        assert_eq!(fleet.task_time(no + FAR), None, "agents were asked what nobody asked");
    }
    honest.context("true questions go on")?;
    assert!(server.metric("muster_nats_hints_unsealed_total")? >= said);
    Ok(())
}

#[test]
fn a_stranger_cannot_watch_a_hunt() -> anyhow::Result<()> {
    let nats = Nats::start()?;
    let (server, _fleet) = start(&nats)?;
    ask(&server)?;
    let mut stranger = Stranger::connect(&nats)?;
    let next = newest_hunt(&server)? + 1;
    stranger.listen(&format!("muster.b.t.live.{next}"))?;
    for version in ["\x02", "\x01"] {
        stranger.publish("muster.b.t.watch", format!("{version}[{next}]").as_bytes())?;
    }
    stranger.heard()?;
    let hunt = server.hunt(&["--sql", SQL, "--canary", "0"])?;
    ensure!(hunt == next, "hunt {hunt} was expected to be {next}");
    let covered = server.covered(hunt, "all to answer", |c| c.is_complete(AGENTS))?;
    assert_eq!(covered.get("row_count"), AGENTS * ROWS);
    // What there was to tell was told when the rows were folded, before they were stored.
    let heard = stranger.heard()?;
    assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard.concat()));
    Ok(())
}
