//! What can go wrong, in the terms a caller acts on.

use sqlx::error::ErrorKind;

/// A failed catalog call. The text names the cause; it holds no argument values.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not reachable or too busy just now: retry. A commit may or may not have happened.
    #[error("catalog unavailable: {0}")]
    Unavailable(String),
    /// A row with this key exists.
    #[error("unique constraint {constraint} violated")]
    UniqueViolation {
        /// The constraint (PostgreSQL) or its columns (SQLite).
        constraint: String,
    },
    /// The database gave up this transaction for the sake of another: retry.
    #[error("conflict with another transaction: {0}")]
    Conflict(String),
    /// The volume is full; nothing was written.
    #[error("the volume of the catalog is full")]
    DiskFull,
    /// This store must not be used by this program as it is; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// Anything else: a mistake of ours or a damaged store.
    #[error("catalog: {0}")]
    Other(String),
}

impl Error {
    /// The same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_) | Self::DiskFull)
    }

    /// A row with this key exists.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::UniqueViolation { .. })
    }

    pub(crate) fn closed() -> Self {
        Self::Unavailable("it is closed".to_owned())
    }

    /// Translates, saying in which statement it happened.
    pub(crate) fn of(statement: &str, error: &sqlx::Error) -> Self {
        match Self::from_sqlx(error) {
            Self::Other(text) => Self::Other(format!("{statement}: {text}")),
            other => other,
        }
    }

    pub(crate) fn from_sqlx(error: &sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(database) => from_database(database.as_ref()),
            E::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => Self::DiskFull,
            E::PoolTimedOut => Self::Unavailable("all connections are busy".to_owned()),
            E::PoolClosed => Self::closed(),
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::WorkerCrashed | E::BeginFailed => {
                Self::Unavailable(error.to_string())
            }
            other => Self::Other(other.to_string()),
        }
    }
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> Error {
    let text = error.message().to_owned();
    if error.kind() == ErrorKind::UniqueViolation {
        let named = error.constraint().map(str::to_owned);
        // SQLite names the columns in its message.
        let columns = || text.rsplit(": ").next().unwrap_or_default().to_owned();
        return Error::UniqueViolation { constraint: named.unwrap_or_else(columns) };
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        return from_sqlite_code(code.parse().unwrap_or(0), text);
    }
    match &*code {
        "40001" | "40P01" => Error::Conflict(text),
        "53100" => Error::DiskFull,
        // Shutting down, starting, too many connections, statement and lock timeouts, read-only.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "53300" | "57014" | "55P03" | "25006" => {
            Error::Unavailable(text)
        }
        code if code.starts_with("08") || code.starts_with("53") => Error::Unavailable(text),
        _ => Error::Other(text),
    }
}

/// No room to extend the file that readers and the writer share.
const SQLITE_IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// The low byte of SQLite's extended result code is the primary one.
fn from_sqlite_code(code: i32, text: String) -> Error {
    match code & 0xff {
        _ if code == SQLITE_IOERR_SHMSIZE => Error::DiskFull,
        // Busy, locked, and I/O errors: whether a commit that met one is on disk is not known.
        5 | 6 | 10 => Error::Unavailable(text),
        9 => Error::Unavailable("a statement ran for too long and was cut off".to_owned()),
        13 => Error::DiskFull,
        _ => Error::Other(text),
    }
}
