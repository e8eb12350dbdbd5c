//! One child process: its question, its first word, its stream.

use std::path::Path;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use muster_types::{SqlRequest, SqlWorkerHello};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child as Process, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use super::SqlOptions;
use crate::problem::{Code, Problem, Result};

const CHUNK: usize = 64 * 1024;
/// The first line is a refusal at most, and refusals are short.
const HELLO_MAX: u64 = 256 * 1024;
/// What is kept of the child's last words for the log.
const WORDS_MAX: usize = 4 * 1024;

/// A running child. Killed when dropped.
pub(super) struct Child {
    process: Process,
    output: BufReader<ChildStdout>,
    deadline: Instant,
}

impl Child {
    /// Starts a child and asks; returns when it has begun to answer.
    pub(super) async fn ask(options: &SqlOptions, request: &SqlRequest) -> Result<Self> {
        let deadline = Instant::now() + std::time::Duration::from_millis(request.limits.time_ms);
        let mut process = spawn(options)?;
        let mut line = serde_json::to_vec(request).map_err(Problem::internal)?;
        line.push(b'\n');
        let mut input =
            process.stdin.take().ok_or_else(|| Problem::internal("no standard input"))?;
        // A child that dies early breaks the pipe; its first line, or the lack of one, says why.
        let _ = input.write_all(&line).await;
        drop(input);
        let output =
            process.stdout.take().ok_or_else(|| Problem::internal("no standard output"))?;
        let mut child = Self { process, output: BufReader::with_capacity(CHUNK, output), deadline };
        let mut hello = Vec::new();
        let mut first = (&mut child.output).take(HELLO_MAX);
        let read = timeout_at(deadline, first.read_until(b'\n', &mut hello)).await;
        if read.is_err() {
            return Err(child.out_of_time());
        }
        match serde_json::from_slice(&hello) {
            Ok(SqlWorkerHello::Ok) => Ok(child),
            Ok(SqlWorkerHello::Error { message, user_error: true, .. }) => {
                Err(Problem::new(Code::InvalidQuery, message))
            }
            Ok(SqlWorkerHello::Error { message, away: true, .. }) => Err(Problem::unavailable(
                "what is stored cannot be read now; try again in a moment",
                message,
            )),
            Ok(SqlWorkerHello::Error { message, .. }) => Err(Problem::internal(message)),
            Err(_) => Err(child.died().await),
        }
    }

    /// The next piece of the stream; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match timeout_at(self.deadline, self.output.read_buf(&mut chunk)).await {
            Err(_) => Err(self.out_of_time()),
            Ok(Err(error)) => Err(Problem::internal(error)),
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(_)) => Ok(Some(chunk.freeze())),
        }
    }

    /// Waits for a child that closed its output; anything but a clean exit is a failure.
    pub(super) async fn finish(mut self) -> Result<()> {
        match timeout_at(self.deadline, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => Err(self.died().await),
            Err(_) => Err(self.out_of_time()),
        }
    }

    /// When its time is up.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends it now and waits until it is gone.
    pub(super) async fn kill(mut self) {
        let _ = self.process.kill().await;
    }

    fn out_of_time(&mut self) -> Problem {
        let _ = self.process.start_kill();
        out_of_time()
    }

    async fn died(&mut self) -> Problem {
        let _ = self.process.start_kill();
        let status = self.process.wait().await;
        let mut words = Vec::new();
        if let Some(errors) = self.process.stderr.take() {
            let _ = errors.take(WORDS_MAX as u64).read_to_end(&mut words).await;
        }
        let words = String::from_utf8_lossy(&words).into_owned();
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        // An allocation beyond the limit aborts the child: there is no softer end.
        if words.contains("memory allocation") || words.contains("out of memory") {
            let detail = "the query ran out of its memory; narrow it, or group by less";
            return Problem::new(Code::QueryMemory, detail);
        }
        Problem::internal(format_args!("the SQL child ended with {status}: {words}"))
    }
}

/// The end of a query that takes longer than it may, or whose reader does.
pub(super) fn out_of_time() -> Problem {
    Problem::new(
        Code::QueryTimeout,
        "the query ran out of its time; narrow it, for example by received_time or hunt",
    )
}

fn spawn(options: &SqlOptions) -> Result<Process> {
    // This same program, even after its file was replaced by an upgrade.
    let program = options.program.as_deref().unwrap_or_else(|| Path::new("/proc/self/exe"));
    Command::new(program)
        .arg0("muster")
        .args(&options.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Problem::unavailable("no SQL process could be started", error))
}
