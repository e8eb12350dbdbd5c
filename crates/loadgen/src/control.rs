//! What a run is told while it goes on.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A word on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The offline endpoints come online. Also SIGUSR1.
    Online,
    /// They go away again.
    Offline,
    /// All links drop and come back.
    Storm,
    /// From now on tasks are taken and not answered.
    Mute,
    /// They are answered again.
    Unmute,
    /// Print a report now.
    Report,
    /// End.
    Stop,
}

/// What agents watch.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Whether the offline endpoints are online.
    pub(crate) online: watch::Sender<bool>,
    /// Raised at each storm.
    pub(crate) storms: watch::Sender<u64>,
}

/// Words from standard input. Its end says nothing: a run in the background has none.
pub(crate) fn words() -> mpsc::Receiver<Word> {
    let (sender, receiver) = mpsc::channel(4);
    // A thread of its own, since a read from a terminal cannot be called off.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let word = match line.trim() {
                "online" => Word::Online,
                "offline" => Word::Offline,
                "storm" => Word::Storm,
                "mute" => Word::Mute,
                "unmute" => Word::Unmute,
                "report" => Word::Report,
                "stop" => Word::Stop,
                "" => continue,
                other => {
                    eprintln!(
                        "{other:?} is none of online, offline, storm, mute, unmute, report, stop"
                    );
                    continue;
                }
            };
            if sender.blocking_send(word).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Turns SIGUSR1 into `online`, SIGINT and SIGTERM into the end.
pub(crate) async fn signals(
    online: watch::Sender<bool>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut usr1 = signal(SignalKind::user_defined1())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = usr1.recv() => { online.send_replace(true); }
            _ = int.recv() => break,
            _ = term.recv() => break,
            () = shutdown.cancelled() => break,
        }
    }
    shutdown.cancel();
    Ok(())
}
