//! The parent's side: starts the child, keeps the time and the bytes, kills what goes beyond.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use muster_types::{Outcome, Spent, Used};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio_util::sync::CancellationToken;

use super::protocol::{Chunk, End, Line, Request};

/// A line from the child may not be longer: a thousand columns with long names.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Default for Command {
    /// This same program, even after its file was replaced by an upgrade.
    fn default() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["agent-query".into()] }
    }
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// `None`: it ran to its end.
    pub outcome: Option<Outcome>,
    /// Why it did not, or the child's warnings.
    pub message: String,
    /// Rows handed to the sink.
    pub row_count: u64,
    /// By the child's account; without one, what is known.
    pub spent: Spent,
}

fn spent(end: &End) -> Spent {
    let used = Used {
        user_micros: end.user_micros,
        system_micros: end.system_micros,
        memory_bytes: end.memory_bytes,
    };
    let used = (used != Used::default()).then_some(used);
    Spent { elapsed_micros: end.elapsed_micros, status: None, used }
}

/// Runs queries.
#[derive(Clone, Debug, Default)]
pub struct Runner {
    command: Command,
}

impl Runner {
    /// With the child started so.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self { command }
    }

    /// Runs one query. Each array of rows goes to `sink` as it comes; an error of the sink ends the
    /// query and becomes its message.
    ///
    /// # Errors
    /// When no child can be started.
    ///
    /// # Cancel safety
    /// Dropping the future kills the child.
    pub async fn run(
        &self,
        mut request: Request,
        cancel: &CancellationToken,
        sink: &mut (dyn FnMut(Chunk, Bytes) -> io::Result<()> + Send),
    ) -> io::Result<Finished> {
        request.parent_pid = Some(rustix::process::getpid().as_raw_nonzero().get());
        let mut child = self.spawn()?;
        let limits = request.limits;
        let mut row_count = 0;
        let told = tokio::select! {
            told = converse(&mut child, &request, &mut row_count, sink) => told,
            () = tokio::time::sleep(Duration::from_millis(limits.timeout_ms)) => {
                Err(Stop::TimedOut)
            }
            () = cancel.cancelled() => Err(Stop::Cancelled),
        };
        if told.is_err() {
            // It may have ended by itself just now, which is as good.
            let _ = child.start_kill();
        }
        let status = child.wait().await?;
        let (outcome, message, spent) = match told {
            Ok(end) => {
                let spent = spent(&end);
                match end.error {
                    None => (None, end.warnings.join("; "), spent),
                    Some(error) => (Some(Outcome::Failed), error, spent),
                }
            }
            Err(Stop::TimedOut) => {
                let text = format!("time limit of {} ms reached", limits.timeout_ms);
                (Some(Outcome::TimedOut), text, Spent::micros(limits.timeout_ms * 1000))
            }
            Err(Stop::Cancelled) => {
                (Some(Outcome::Cancelled), "cancelled".to_owned(), Spent::default())
            }
            Err(Stop::Sink(text)) => (Some(Outcome::Failed), text, Spent::default()),
            Err(Stop::Bytes) => {
                let text = format!("byte limit of {} reached", limits.bytes);
                (Some(Outcome::Failed), text, Spent::default())
            }
            // Our kill comes only after this; so it was the allocator's abort, or the kernel.
            Err(Stop::Died) => (
                Some(Outcome::Failed),
                format!(
                    "the query's process ended ({status}); most likely it reached the memory limit \
                     of {} bytes",
                    limits.memory_bytes
                ),
                Spent::default(),
            ),
        };
        Ok(Finished { outcome, message, row_count, spent })
    }

    fn spawn(&self) -> io::Result<Child> {
        tokio::process::Command::new(&self.command.program)
            .arg0("muster-agent-query")
            .args(&self.command.args)
            // No secrets of the agent's environment, no proxy, no locale.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Why the conversation was broken off.
#[derive(Debug)]
enum Stop {
    TimedOut,
    Cancelled,
    Bytes,
    Died,
    Sink(String),
}

async fn converse(
    child: &mut Child,
    request: &Request,
    row_count: &mut u64,
    sink: &mut (dyn FnMut(Chunk, Bytes) -> io::Result<()> + Send),
) -> Result<End, Stop> {
    let died = |_| Stop::Died;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Stop::Died);
    };
    let mut line = serde_json::to_vec(request).map_err(|error| Stop::Sink(error.to_string()))?;
    line.push(b'\n');
    input.write_all(&line).await.map_err(died)?;
    drop(input);

    let mut output = BufReader::with_capacity(64 << 10, output);
    let mut bytes_left = request.limits.bytes;
    loop {
        match read_line(&mut output).await? {
            Line::End(end) => return Ok(end),
            Line::Chunk(chunk) => {
                // Brackets and commas are not counted by the child.
                let allowed = bytes_left.saturating_add(chunk.row_count + 2);
                if chunk.byte_count > allowed {
                    return Err(Stop::Bytes);
                }
                bytes_left = bytes_left.saturating_sub(chunk.byte_count);
                let mut rows = vec![0; usize::try_from(chunk.byte_count).map_err(|_| Stop::Bytes)?];
                output.read_exact(&mut rows).await.map_err(died)?;
                *row_count += chunk.row_count;
                sink(chunk, rows.into()).map_err(|error| Stop::Sink(error.to_string()))?;
            }
        }
    }
}

async fn read_line(output: &mut BufReader<ChildStdout>) -> Result<Line, Stop> {
    let mut line = Vec::new();
    let mut limited = output.take(LINE_BYTES_MAX);
    limited.read_until(b'\n', &mut line).await.map_err(|_| Stop::Died)?;
    serde_json::from_slice(&line).map_err(|_| Stop::Died)
}
