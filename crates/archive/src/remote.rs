//! Object stores behind HTTP: how they are opened, and how long a call to them may take.

use std::sync::Arc;
use std::time::Duration;

use muster_types::ArchiveAccess;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::Error;

const CONNECT: Duration = Duration::from_secs(3);
/// Tries of one request, the first among them, and the time after which no further one begins.
const TRIES: usize = 4;
const TRY_FOR: Duration = Duration::from_secs(10);
/// A call ends after this long, with its retries,
const CALL: Duration = Duration::from_secs(15);
/// and as much longer as its bytes take at this rate.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The longest that a call which moves so many bytes may take.
pub(crate) fn time_for(byte_count: u64) -> Duration {
    CALL + Duration::from_secs(byte_count / BYTES_PER_SECOND)
}

/// Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; `None` for another scheme.
pub(crate) fn open(
    url: &str,
    access: &ArchiveAccess,
) -> Option<Result<Arc<dyn ObjectStore>, Error>> {
    let (scheme, rest) = url.split_once("://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let built = match scheme {
        "s3" => s3(bucket, access),
        "gs" => gs(bucket),
        "az" => az(bucket, access),
        _ => return None,
    };
    if bucket.is_empty() {
        return Some(Err(Error::Store(format!("{url:?} names no bucket"))));
    }
    Some(built.map_err(|error| Error::of(url, &error)).and_then(|store| within(store, prefix)))
}

fn within(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Ok(store);
    }
    crate::name::check(prefix)?;
    Ok(Arc::new(PrefixStore::new(store, Path::from(prefix))))
}

type Built = Result<Arc<dyn ObjectStore>, object_store::Error>;

fn s3(bucket: &str, access: &ArchiveAccess) -> Built {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client(access.allow_http))
        .with_retry(retry())
        // `If-None-Match: *`: without it nothing here is right, so it is no option.
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
    }
    if let Some(path_style) = access.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    if let Some(region) = &access.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &access.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &access.secret_access_key {
        builder = builder.with_secret_access_key(secret);
    }
    Ok(Arc::new(builder.build()?))
}

fn gs(bucket: &str) -> Built {
    let builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client(false))
        .with_retry(retry());
    Ok(Arc::new(builder.build()?))
}

fn az(container: &str, access: &ArchiveAccess) -> Built {
    let builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client(access.allow_http))
        .with_retry(retry());
    Ok(Arc::new(builder.build()?))
}

/// Whole calls are bounded by [`time_for`]: a bound on each request would cut large objects.
fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(CONNECT)
        .with_timeout_disabled()
        .with_allow_http(allow_http)
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: TRIES - 1, retry_timeout: TRY_FOR }
}
