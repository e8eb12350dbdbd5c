//! The child process: hard limits, one question, one answer.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use futures_util::StreamExt;
use muster_types::{SqlRequest, SqlWorkerHello};
use rustix::process::{Resource, Rlimit, getppid, nice, setrlimit};

use crate::{Answer, Engine, Error};

/// Longest question.
const REQUEST_MAX: u64 = 64 << 20;
/// Agents and people come first.
const NICE: i32 = 10;
/// How often the parent is looked after. Its end closes our output too, but only a writer sees that.
const PARENT_EVERY: Duration = Duration::from_millis(500);
/// Plans are deep: bounded by the length of their texts, not by the stack of a thread.
const PLAN_STACK: usize = 64 << 20;
const STACK: usize = 16 << 20;

/// Answers the one question on standard input; the whole of `muster sql-worker`.
#[must_use]
pub fn worker_main() -> ExitCode {
    let thread = std::thread::Builder::new().stack_size(PLAN_STACK).spawn(answer);
    let done = thread
        .map_err(output)
        .and_then(|thread| thread.join().unwrap_or_else(|_| Err(output("the query panicked"))));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<(), Error> {
    end_with_parent().map_err(output)?;
    // Best effort: a child that is not nice is still right.
    let _ = nice(NICE);
    let mut line = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(REQUEST_MAX).read_until(b'\n', &mut line).map_err(output)?;
    let request: SqlRequest = serde_json::from_slice(&line).map_err(output)?;
    drop(line);
    let limit = Some(request.limits.memory_bytes);
    setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit }).map_err(output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(request.threads.max(1))
        .thread_stack_size(STACK)
        .max_blocking_threads(request.threads.max(1) * 2)
        .enable_all()
        .build()
        .map_err(output)?;
    let done = runtime.block_on(talk(&request));
    // Threads that still read end with the process.
    runtime.shutdown_background();
    done
}

async fn talk(request: &SqlRequest) -> Result<(), Error> {
    let mut stdout = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let begun = begin(request).await;
    let (first, mut rest) = match begun {
        Ok(begun) => begun,
        // The parent tells the asker by how we die.
        Err(error @ Error::Memory(_)) => return Err(error),
        Err(error) => {
            let (message, user_error) = (error.chain(), error.is_asker());
            let away = error.is_away();
            say(&mut stdout, &SqlWorkerHello::Error { message, user_error, away })?;
            return Ok(());
        }
    };
    say(&mut stdout, &SqlWorkerHello::Ok)?;
    let schema = plain_schema(&rest.schema());
    let mut writer = StreamWriter::try_new(stdout, &schema).map_err(output)?;
    let mut left = usize::try_from(request.limits.rows).unwrap_or(usize::MAX);
    let mut next = first;
    while let Some(batch) = next {
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        writer.write(&plain(&batch, &schema)?).map_err(output)?;
        if left == 0 {
            break;
        }
        writer.get_mut().flush().map_err(output)?;
        next = rest.next().await.transpose()?;
    }
    writer.finish().map_err(output)?;
    writer.get_mut().flush().map_err(output)
}

/// Runs up to the first rows, so that most errors come before them.
async fn begin(request: &SqlRequest) -> Result<(Option<RecordBatch>, Answer), Error> {
    let engine = Box::pin(Engine::open(request)).await?;
    let mut answer = Box::pin(engine.run()).await?;
    loop {
        match answer.next().await.transpose()? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => return Ok((first, answer)),
        }
    }
}

fn say(out: &mut impl Write, hello: &SqlWorkerHello) -> Result<(), Error> {
    let mut line = serde_json::to_vec(hello).map_err(output)?;
    line.push(b'\n');
    out.write_all(&line).map_err(output)?;
    out.flush().map_err(output)
}

fn output(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Output(error.into())
}

/// Types that every reader of Arrow knows, in place of those the engine prefers.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        Field::new(field.name(), plain_type(field.data_type()), field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn plain_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(of) | DataType::LargeList(of) | DataType::ListView(of) => {
            DataType::List(Arc::new(Field::new(of.name(), plain_type(of.data_type()), true)))
        }
        kind => kind.clone(),
    }
}

fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(output)?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows).map_err(output)
}

/// Ends the process soon after its parent's.
fn end_with_parent() -> std::io::Result<()> {
    let parent = getppid();
    let watch = move || {
        while getppid() == parent {
            std::thread::sleep(PARENT_EVERY);
        }
        std::process::exit(1);
    };
    std::thread::Builder::new().name("parent".to_owned()).spawn(watch).map(drop)
}
