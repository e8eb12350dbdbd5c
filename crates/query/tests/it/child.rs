//! The worker as a real process: its limits, its answer, its end.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use arrow::ipc::reader::StreamReader;
use muster_testkit::S3;
use muster_types::{Access, SqlRequest, SqlWorkerHello};

use crate::kit::{ORG, World};

fn start(request: &SqlRequest) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-sql-worker"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    child.stdin.take().unwrap().write_all(&line).unwrap();
    child
}

struct Said {
    status: ExitStatus,
    hello: Option<SqlWorkerHello>,
    rows: usize,
    words: String,
}

fn ask(request: &SqlRequest) -> Said {
    let out = start(request).wait_with_output().unwrap();
    let end = out.stdout.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let hello = serde_json::from_slice(&out.stdout[..end]).ok();
    let stream = StreamReader::try_new(&out.stdout[end..], None);
    let batches = stream.into_iter().flatten().map_while(Result::ok);
    let rows = batches.map(|batch| batch.num_rows()).sum();
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    Said { status: out.status, hello, rows, words }
}

#[tokio::test]
async fn it_answers_up_to_its_limit() {
    let world = World::new().await;
    let mut request = world.request(&Access::all(ORG), "SELECT * FROM linux_processes");
    let said = ask(&request);
    assert!(matches!(said.hello, Some(SqlWorkerHello::Ok)), "{}", said.words);
    assert_eq!((said.rows, said.status.success()), (30, true), "{}", said.words);
    request.limits.rows = 7;
    assert_eq!(ask(&request).rows, 7);
    request.sql = "SELECT * FROM linux_processes WHERE false".into();
    let said = ask(&request);
    assert!(matches!(said.hello, Some(SqlWorkerHello::Ok)));
    assert_eq!((said.rows, said.status.success()), (0, true));
    request.sql = "SELECT nothing".into();
    let said = ask(&request);
    assert!(matches!(said.hello, Some(SqlWorkerHello::Error { user_error: true, .. })));
    request.catalog_url = "sqlite:///nowhere/catalog.db".into();
    let said = ask(&request);
    assert!(matches!(said.hello, Some(SqlWorkerHello::Error { user_error: false, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_a_bucket_whose_secret_comes_by_standard_input() {
    let mut server = S3::start().unwrap();
    let world = World::on_s3(&server).await;
    let request = world.request(&Access::all(ORG), "SELECT * FROM linux_processes");
    let said = ask(&request);
    assert!(matches!(said.hello, Some(SqlWorkerHello::Ok)), "{}", said.words);
    assert_eq!((said.rows, said.status.success()), (30, true), "{}", said.words);
    let mut other = request.clone();
    other.archive_access.secret_access_key = Some("wrong".to_owned());
    let said = ask(&other);
    assert!(said.rows == 0 && !matches!(said.hello, Some(SqlWorkerHello::Ok)), "{}", said.words);
    // A bucket that is away is no mistake of the asker.
    server.kill().unwrap();
    let said = ask(&request);
    let hello = said.hello;
    assert!(matches!(hello, Some(SqlWorkerHello::Error { user_error: false, .. })), "{hello:?}");
}

#[tokio::test]
async fn memory_ends_it() {
    let world = World::new().await;
    for sql in [
        // The engine counts this one.
        "SELECT count(*) FROM (SELECT DISTINCT repeat('x', 20000) || value FROM generate_series(1, 500000))",
        // Nobody but the system counts these.
        "SELECT length(repeat('x', 2000000000))",
        "SELECT repeat(repeat('x', 1000000), 1000) FROM generate_series(1, 1000)",
    ] {
        let mut request = world.request(&Access::all(ORG), sql);
        request.limits.memory_bytes = 256 << 20;
        let begun = Instant::now();
        let said = ask(&request);
        assert!(!said.status.success(), "{sql}: {}", said.words);
        let known =
            said.words.contains("out of memory") || said.words.contains("memory allocation");
        assert!(known, "{sql}: {}", said.words);
        assert!(begun.elapsed() < Duration::from_secs(60), "{sql}");
    }
}

#[tokio::test]
async fn a_kill_ends_it_at_once_and_so_does_the_end_of_its_reader() {
    let world = World::new().await;
    let sql = "SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 1000000) b ON a.value % 7 <> b.value";
    let mut child = start(&world.request(&Access::all(ORG), sql));
    let mut output = child.stdout.take().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it works still");
    child.kill().unwrap();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    child.wait().unwrap();

    let mut request =
        world.request(&Access::all(ORG), "SELECT * FROM generate_series(1, 1000000000000)");
    request.limits.rows = u64::MAX;
    let mut child = start(&request);
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 4096]).unwrap();
    drop(output);
    let begun = Instant::now();
    assert!(!child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn hostile_texts_are_errors() {
    let world = World::new().await;
    let n = 20_000;
    for (sql, deep) in [
        (format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)), true),
        (format!("SELECT {} 1", "NOT ".repeat(n)), true),
        (format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n)), true),
        (format!("{} 1 {}", "SELECT * FROM (SELECT".repeat(n), ")".repeat(n)), true),
        (format!("SELECT CASE {} END", "WHEN CASE ".repeat(n)), true),
        (format!("SELECT {}1", "-".repeat(n)), true),
        (format!("SELECT 1{}", " + 1".repeat(n)), true),
        (format!("SELECT 1 WHERE true{}", " OR name = 'x'".repeat(n)), true),
        (format!("SELECT 1 WHERE 1 IN ({}1)", "1,".repeat(n)), false),
        (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(2_000)), true),
        (format!("SELECT 1{}", " + 1".repeat(990)), false),
        (format!("SELECT pid FROM hunt_1 WHERE pid = 1{}", " OR abs(pid) > 1".repeat(490)), false),
        (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(490)), false),
        (format!("SELECT 1{}", " UNION SELECT 1".repeat(300)), false),
    ] {
        let said = ask(&world.request(&Access::all(ORG), &sql));
        let refused = matches!(said.hello, Some(SqlWorkerHello::Error { user_error: true, .. }));
        let answered = matches!(said.hello, Some(SqlWorkerHello::Ok)) && !deep;
        assert!(
            refused || answered,
            "{}: {}",
            &sql[..40],
            &said.words[..said.words.len().min(400)]
        );
        assert!(said.status.success(), "{}", said.status);
    }
}
