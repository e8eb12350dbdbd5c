//! Keeps the streams usable: looks at them at start, after every reconnect, and again while they are
//! not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::options::OpenError;
use super::setup::{self, Problem};
use super::shared::{Shared, State};

/// The pause before streams that cannot be used are looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// The first look, within the first wait of the connection.
///
/// # Errors
/// What waiting does not mend.
pub(super) async fn first(shared: &Shared) -> Result<(), OpenError> {
    let deadline = Instant::now() + shared.options.connection.first_wait.max(AGAIN);
    while shared.connection.is_connected() {
        shared.check_payload()?;
        match setup::run(shared, true).await {
            Ok(()) => {
                shared.state.send_replace(State::Ready);
                break;
            }
            Err(Problem::Unfit(why)) => return Err(OpenError::Unfit(why)),
            Err(Problem::Away(why)) => {
                shared.state.send_replace(State::Broken(why.clone()));
                if Instant::now() >= deadline {
                    tracing::warn!(error = why, "NATS does not serve the streams yet");
                    break;
                }
                sleep(AGAIN / 4).await;
            }
        }
    }
    Ok(())
}

/// Looks again until `stop`.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut status = shared.connection.status();
    let mut looked = match *shared.state.borrow() {
        State::Ready => status.borrow_and_update().connects,
        _ => 0,
    };
    loop {
        let now = status.borrow_and_update().clone();
        if now.connected && now.connects != looked {
            match setup::run(&shared, looked == 0).await {
                Ok(()) => {
                    looked = now.connects;
                    if shared.state.send_replace(State::Ready) != State::Ready {
                        tracing::info!("the streams on NATS can be used");
                    }
                }
                // What was fit a moment ago is used on; appends say themselves what is wrong.
                Err(Problem::Away(_)) if looked != 0 => {}
                Err(Problem::Unfit(why) | Problem::Away(why)) => {
                    let broken = State::Broken(why.clone());
                    if shared.state.send_replace(broken.clone()) != broken {
                        tracing::warn!(error = why, "the streams on NATS cannot be used");
                    }
                }
            }
        }
        let unfinished = now.connected && now.connects != looked;
        let changed = async {
            let wait = if unfinished { AGAIN } else { Duration::from_secs(3600) };
            timeout(wait, status.changed()).await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changed => if matches!(changed, Ok(Err(_))) { return },
        }
    }
}
