//! The child: one request from standard input, one answer to standard output.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use rustix::process::{Resource, Rlimit, Signal};

use crate::tables;

use super::engine::{Bounds, Engine};
use super::protocol::{End, Line, Request};

/// A request line may not be longer.
const REQUEST_BYTES_MAX: u64 = 4 << 20;
/// Beside SQLite's own memory: rows being written, the tables' reading.
const MEMORY_SLACK: u64 = 32 << 20;

/// `muster agent-query`: runs one query and exits. Never called by people.
#[must_use]
pub fn child_main() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the agent's; a reader that has gone away is no news.
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = writeln!(io::stderr(), "agent-query: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(input: &mut impl BufRead, output: &mut dyn Write) -> io::Result<()> {
    let start = Instant::now();
    let mut line = String::new();
    input.take(REQUEST_BYTES_MAX).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    confine(&request)?;

    let limits = request.limits;
    let mut end = End::default();
    match Engine::open(tables::all(), Some(limits.memory_bytes)) {
        Ok(engine) => {
            let mut sink = |chunk: &super::Chunk, rows: &[u8]| {
                write_line(output, &Line::Chunk(chunk.clone()))?;
                output.write_all(rows)
            };
            let bounds = Bounds { rows_max: limits.rows, bytes_max: limits.bytes };
            let answer = engine.run(&request.sql, &request.params, bounds, &mut sink);
            end = End {
                row_count: answer.row_count,
                columns: answer.columns,
                warnings: engine.warnings(),
                error: answer.result.err().map(|error| error.to_string()),
                ..end
            };
        }
        Err(error) => end.error = Some(error.to_string()),
    }
    end.elapsed_micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    // The whole process is for this query. Not its `ru_maxrss`: that outlives exec, and would be the agent's.
    end.memory_bytes = status("VmHWM:");
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
        end.user_micros = micros(usage.user_time());
        end.system_micros = micros(usage.system_time());
    }
    write_line(output, &Line::End(end))?;
    output.flush()
}

fn write_line(output: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

/// Gives up what a query does not need: memory, precedence, files, a life after its parent.
fn confine(request: &Request) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if request.parent_pid.is_some() && request.parent_pid != parent {
        // It died before the line above.
        return Err(io::Error::other("the agent has gone"));
    }
    rustix::process::nice(10)?;
    // What is mapped by now (the allocator's arenas, mostly) does not count.
    let allowed = data_bytes().saturating_add(request.limits.memory_bytes + MEMORY_SLACK);
    let limit = |resource, bytes| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) })
    };
    limit(Resource::Data, allowed)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    Ok(())
}

/// Private writable memory, as RLIMIT_DATA counts it.
fn data_bytes() -> u64 {
    status("VmData:")
}

/// A number of bytes that the kernel tells of this process.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}
