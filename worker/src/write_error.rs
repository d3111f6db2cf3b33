//! Why something was not written: whoever writes goes on trying while the database is only out of reach.

use diesel::result::{DatabaseErrorKind, Error};
use shared::db::PoolError;
use std::time::Duration;

/// The first pause before a write that failed is tried again; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why something was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    /// It may be written when the database is back. It may also have been written already: the answer is missing.
    #[error("the database is out of reach: {0}")]
    Unreachable(String),
    /// The database does not take it.
    #[error("the database refused it: {0}")]
    Refused(String),
}

impl From<PoolError> for WriteError {
    fn from(error: PoolError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        let unreachable = matches!(
            error,
            Error::DatabaseError(DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection, _)
                | Error::BrokenTransactionManager
        );
        // a server that stops or starts says so
        let text = error.to_string();
        let away = ["terminating connection", "the database system is"].iter().any(|words| text.contains(words));
        if unreachable || away { Self::Unreachable(text) } else { Self::Refused(text) }
    }
}

/// Pauses between tries, longer and longer.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}
