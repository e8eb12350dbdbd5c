//! One batch to one destination, and finding the rows it refuses for ever.

use std::time::Duration;

use crate::destination::{SendError, Sender, Verdict};
use crate::event::Event;

/// A batch that is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// In the destination's words.
    pub message: String,
    /// When it asks to be tried again.
    pub retry_after: Option<Duration>,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None }
    }
}

/// Sends a batch. A batch that is rejected as a whole is halved until the rows are found that are
/// why. Rows that are refused are told with the destination's reason.
///
/// `may_send` is asked before each part: finding rows takes long, and somebody else may have the sink by
/// then.
///
/// When every row is refused, the destination may be what is wrong: then it is shown `probe`, which
/// tells of nothing, and only when it takes that are the rows to blame.
///
/// # Errors
/// When the batch, or some of it, is to be sent again; what was taken will be met by the same ids.
pub(crate) async fn deliver(
    sender: &mut Sender,
    events: &[Event],
    may_send: impl Fn() -> bool,
    probe: impl FnOnce() -> Event,
) -> Result<Vec<(usize, String)>, Trouble> {
    let mut refused = Vec::new();
    let mut left: Vec<_> = std::iter::once(0..events.len()).collect();
    while let Some(range) = left.pop() {
        if !may_send() {
            return Err(Trouble::new("the sink has another holder"));
        }
        match sender.send(&events[range.clone()]).await {
            Ok(verdicts) => {
                for (at, verdict) in range.zip(verdicts) {
                    match verdict {
                        Verdict::Taken => {}
                        Verdict::Refused(why) => refused.push((at, why)),
                        Verdict::Again(why) => return Err(Trouble::new(why)),
                    }
                }
            }
            Err(SendError::Failed { message, retry_after }) => {
                return Err(Trouble { message, retry_after });
            }
            Err(SendError::Rejected(why)) if range.len() <= 1 => {
                refused.extend(range.map(|at| (at, why.clone())));
            }
            Err(SendError::Rejected(_)) => {
                let middle = range.start + range.len() / 2;
                left.push(middle..range.end);
                left.push(range.start..middle);
            }
        }
    }
    if !refused.is_empty() && refused.len() == events.len() {
        let why = refused.first().map(|(_, why)| why.clone()).unwrap_or_default();
        if let Err(also) = sender.test(probe()).await {
            let message = format!("it refuses every row ({why}), and also a test event: {also}");
            return Err(Trouble::new(message));
        }
    }
    Ok(refused)
}
