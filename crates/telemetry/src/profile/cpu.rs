//! Where the processor's time goes.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::ProfilerGuardBuilder;
use pprof::protos::Message;
use tokio::sync::Mutex;

use super::Error;

/// Samples per second of processor time; prime, so that it keeps no step with timers.
const HERTZ: i32 = 99;

/// The profiler is one for the process: its signal and its timer are.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A profile of all threads over this time, gzipped protobuf. Two that are asked for at once come one
/// after the other.
///
/// # Errors
/// When the kernel does not give a timer.
///
/// # Cancel safety
/// Dropped, the profiler stops.
pub async fn cpu(time: Duration) -> Result<Vec<u8>, Error> {
    let _alone = ONE_AT_A_TIME.lock().await;
    // The unwinder must not be interrupted inside these: it would wait for a lock they hold.
    let blocked = ["libc", "libgcc", "pthread", "vdso"];
    let guard = ProfilerGuardBuilder::default()
        .frequency(HERTZ)
        .blocklist(&blocked)
        .build()
        .map_err(Error::of)?;
    tokio::time::sleep(time).await;
    // Names of functions are read from the program's file, which takes a while.
    tokio::task::spawn_blocking(move || {
        let profile =
            guard.report().build().and_then(|report| report.pprof()).map_err(Error::of)?;
        let bytes = profile.write_to_bytes().map_err(Error::of)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&bytes).and_then(|()| gzip.finish()).map_err(Error::of)
    })
    .await
    .map_err(Error::of)?
}
