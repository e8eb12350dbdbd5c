//! What went wrong, and the exit code that says so.

use std::fmt;

/// Exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The server refused, or the answer is that something is wrong.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Nobody is signed in, or the sign-in has ended.
    SignIn = 3,
    /// Some endpoints have not answered; coverage was printed.
    Partial = 4,
    /// The server cannot be reached, or is not to be trusted.
    Unreachable = 5,
    /// Ended by Ctrl-C; the work on the server was cancelled too.
    Cancelled = 130,
}

/// A failed command: one message for people and the exit code.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl CliError {
    /// An error with this code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Refused, format!("{error:#}"))
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        // `muster … | head` closes our output; that is no failure to tell anybody about.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        Self::new(Exit::Refused, error.to_string())
    }
}
