//! What a failed call says of the server.

use crate::Error;

/// A failed call, and whether its connection went with it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The connection is gone, or its server is no longer the primary: worth a look at all of them.
    pub(super) lost: bool,
}

impl Failure {
    /// Translates, saying in which statement it happened.
    pub(super) fn of(statement: &str, error: &sqlx::Error) -> Self {
        Self { error: Error::of(statement, error), lost: is_lost(error) }
    }

    pub(super) fn lost(why: &str) -> Self {
        Self { error: Error::Unavailable(why.to_owned()), lost: true }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, lost: false }
    }
}

fn is_lost(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::WorkerCrashed | E::BeginFailed => true,
        E::PoolClosed => true,
        // Ended by an administrator, by a crash of a neighbour or by a shutdown; starting; and read-only:
        // it was the primary once.
        E::Database(database) => {
            matches!(
                database.code().as_deref(),
                Some("57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006")
            ) || database.code().is_some_and(|code| code.starts_with("08"))
        }
        _ => false,
    }
}
