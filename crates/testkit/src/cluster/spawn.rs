//! Processes that end with the test process.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Context;

type Order = (Command, Sender<std::io::Result<Child>>);

/// A command that the kernel kills when the thread that starts it ends; see [`spawn`].
#[must_use]
pub fn dying(program: &Path) -> Command {
    prefixed(&[], program.as_os_str())
}

/// The same behind other programs that become it, such as `nsenter`.
pub(super) fn prefixed(prefix: &[String], program: &OsStr) -> Command {
    let mut words: Vec<&OsStr> = Vec::new();
    if Path::new("/usr/bin/setpriv").exists() {
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsStr::new));
    }
    words.extend(prefix.iter().map(OsStr::new));
    words.push(program);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Starts a command from a thread that lives as long as the process: what was made by [`dying`] ends
/// with the process, and not with a thread of one test.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: Command) -> anyhow::Result<Child> {
    static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let shown = format!("{command:?}");
    let (answer, started) = channel();
    orders
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .context("the thread that starts processes has ended")?;
    started
        .recv()
        .context("the thread that starts processes has ended")?
        .with_context(|| format!("start {shown}"))
}
