//! What an attempt came to. Handlers say it with these types; `execute` turns it into rows.

use crate::write_error::WriteError;
use serde_json::Value;
use shared::models::{Failure, Tried};
use std::time::Duration;

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The job is done, with this result.
    Done(Value),
    /// It did not work now and may work later.
    Retry {
        /// When to try again; `None`: as the pool's backoff says.
        after: Option<Duration>,
        /// Whether this attempt counts against the pool's `attempts`.
        charge: bool,
        /// Why.
        failure: Failure,
    },
    /// A delivery was not taken, and is sent again as its schedule says.
    TryAgain {
        /// When.
        after: Duration,
        /// The request, recorded with it.
        tried: Tried,
        /// Why.
        failure: Failure,
    },
    /// It will never work.
    Fail {
        /// Why.
        failure: Failure,
        /// What was found all the same.
        result: Option<Value>,
    },
}

/// Why a handler goes no further; passed up with `?`.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Another attempt holds the job: this one ends without a word.
    Lost,
    /// The attempt ends like this.
    With(Box<Outcome>),
}

impl Stop {
    /// Something outside did not answer; try again, charged.
    pub(crate) fn retry(code: &str, message: impl Into<String>) -> Self {
        let failure = Failure { code: code.to_owned(), message: message.into() };
        Self::With(Box::new(Outcome::Retry { after: None, charge: true, failure }))
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(_) => Self::retry("database_error", error.to_string()),
            // not the job's fault
            WriteError::Unreachable(_) => {
                let failure = Failure { code: "database_unavailable".to_owned(), message: error.to_string() };
                let after = Some(Duration::from_secs(1));
                Self::With(Box::new(Outcome::Retry { after, charge: false, failure }))
            }
        }
    }
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        WriteError::from(error).into()
    }
}

impl From<shared::db::PoolError> for Stop {
    fn from(error: shared::db::PoolError) -> Self {
        WriteError::from(error).into()
    }
}
