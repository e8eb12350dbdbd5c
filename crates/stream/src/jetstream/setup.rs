//! The streams on the servers: made when they are missing, looked at when they are there.

use std::error::Error as _;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishErrorKind, RequestError,
    RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use muster_nats::Version;
use muster_types::Pos;

use super::layout::{self, STREAMS};
use super::message;
use super::options::Begin;
use super::shared::Shared;

/// The least bound of a stream: small quotas are kept by admission alone.
const STREAM_BYTES_MIN: u64 = 64 << 20;

/// Why the streams cannot be used.
#[derive(Debug)]
pub(super) enum Problem {
    /// Somebody has to do something.
    Unfit(String),
    /// It may pass.
    Away(String),
}

/// Makes sure that all streams are there and fit.
///
/// `may_create` is false once they were there: one that has vanished since is not replaced by an empty one.
pub(super) async fn run(shared: &Shared, may_create: bool) -> Result<(), Problem> {
    match shared.connection.version() {
        Some(version) if version < Version::OLDEST => {
            return Err(Problem::Unfit(format!(
                "the NATS server is {version}; {} or newer is needed",
                Version::OLDEST
            )));
        }
        _ => {}
    }
    try_join_all((0..STREAMS).map(|stream| ensure(shared, stream, may_create))).await?;
    Ok(())
}

fn wanted(shared: &Shared, stream: usize) -> Config {
    // A stream may hold twice its share, for shards that are busier than others; the quota of all is
    // kept by admission.
    let bytes = (shared.options.quota_bytes / STREAMS as u64 * 2).max(STREAM_BYTES_MIN);
    Config {
        name: shared.stream_name(stream),
        description: Some("facts in flight of Muster; do not change".to_owned()),
        subjects: layout::shards_of(stream).map(|shard| shared.subject(shard)).collect(),
        max_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        discard: DiscardPolicy::New,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: shared.options.replicas,
        first_sequence: shared.options.begin.first_sequence(),
        // Repeats are told apart by the fold; the servers need not remember ids.
        duplicate_window: Duration::from_millis(100),
        ..Config::default()
    }
}

async fn ensure(shared: &Shared, stream: usize, may_create: bool) -> Result<(), Problem> {
    let config = wanted(shared, stream);
    let name = config.name.clone();
    let stream_handle = match shared.context.get_stream(&name).await {
        Ok(found) => {
            compare(&config, found.cached_info())?;
            found
        }
        Err(error) => {
            let code = jetstream_code(&error);
            if !shared.connection.client().server_info().jetstream && nobody_answers(&error) {
                return Err(problem(Some(ErrorCode::JETSTREAM_NOT_ENABLED), String::new()));
            }
            if code.is_none_or(|code| code != ErrorCode::STREAM_NOT_FOUND) {
                return Err(problem(code, format!("stream {name} cannot be looked at: {error}")));
            }
            if !may_create {
                return Err(Problem::Unfit(format!("stream {name} is gone from the NATS servers")));
            }
            if let Begin::Refused(why) = &shared.options.begin {
                return Err(Problem::Unfit(format!("stream {name} is missing: {why}")));
            }
            tracing::info!(stream = name, replicas = config.num_replicas, "making a stream");
            // Two that make it at once make the same.
            shared.context.get_or_create_stream(config).await.map_err(|error| {
                let code = match error.kind() {
                    CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
                    _ => None,
                };
                problem(code, format!("stream {name} cannot be made: {error}"))
            })?
        }
    };
    let away = |error: String| Problem::Away(error);
    let filter = format!("{}.s.*", shared.options.prefix);
    let info = stream_handle.info_with_subjects(filter).await;
    let begun = info.map_err(|error| away(error.to_string()))?;
    let begun: Vec<(String, usize)> =
        begun.try_collect().await.map_err(|error| away(error.to_string()))?;
    for shard in layout::shards_of(stream) {
        let subject = shared.subject(shard);
        if !begun.iter().any(|(name, _)| *name == subject) {
            begin(shared, subject, shared.options.begin.read_before(shard)).await?;
        }
    }
    Ok(())
}

/// Writes the message a shard begins with, unless somebody did.
async fn begin(shared: &Shared, subject: String, before: Pos) -> Result<(), Problem> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let published =
        shared.context.publish_with_headers(subject, headers, message::beginning(before)).await;
    let published = match published {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    };
    match published {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(()),
        Err(error) => Err(Problem::Away(format!("a shard cannot begin: {error}"))),
    }
}

/// What is there is never changed: an operator may have reasons. What would lose records is refused.
fn compare(wanted: &Config, info: &Info) -> Result<(), Problem> {
    let (name, found) = (&info.config.name, &info.config);
    let mut subjects = [wanted.subjects.clone(), found.subjects.clone()];
    subjects.iter_mut().for_each(|subjects| subjects.sort());
    let unfit = [
        (subjects[0] != subjects[1], "has other subjects"),
        (found.retention != RetentionPolicy::Limits, "forgets what was read"),
        (
            found.discard != DiscardPolicy::New && found.max_bytes > 0,
            "drops old messages when full",
        ),
        (!found.max_age.is_zero(), "drops messages by age"),
        (found.max_messages_per_subject > 0, "drops messages by number"),
        (found.storage != StorageType::File, "is kept in memory"),
    ];
    if let Some((_, what)) = unfit.iter().find(|(is, _)| *is) {
        return Err(Problem::Unfit(format!(
            "stream {name} on NATS {what}, and would lose records: correct it with `nats stream edit \
             {name}`, or choose another nats.subject_prefix"
        )));
    }
    if found.num_replicas != wanted.num_replicas {
        tracing::warn!(
            stream = name,
            replicas = found.num_replicas,
            configured = wanted.num_replicas,
            "a stream has other replicas than nats.replicas says; change it with `nats stream edit`"
        );
    }
    if found.max_bytes != wanted.max_bytes && found.max_bytes > 0 {
        tracing::info!(
            stream = name,
            max_bytes = found.max_bytes,
            wanted = wanted.max_bytes,
            "a stream's bound does not follow from stream.quota any more; change it with `nats stream edit`"
        );
    }
    Ok(())
}

fn jetstream_code(error: &GetStreamError) -> Option<ErrorCode> {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

/// Servers without JetStream say nothing at all.
fn nobody_answers(error: &GetStreamError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<RequestError>());
    source.is_some_and(|error| error.kind() == RequestErrorKind::NoResponders)
}

/// What the servers say will not change by itself.
fn problem(code: Option<ErrorCode>, text: String) -> Problem {
    match code {
        Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT) => {
            Problem::Unfit(
                "JetStream is not enabled on the NATS servers, or not for this account".to_owned(),
            )
        }
        Some(ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED) => Problem::Unfit(format!(
            "{text}; a single NATS server keeps one copy: set nats.replicas: 1, or run a cluster of three"
        )),
        Some(
            ErrorCode::STREAM_SUBJECT_OVERLAP
            | ErrorCode::STREAM_INVALID_CONFIG
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ) => Problem::Unfit(format!(
            "{text}; the servers' max_file_store must hold twice stream.quota"
        )),
        _ => Problem::Away(text),
    }
}
