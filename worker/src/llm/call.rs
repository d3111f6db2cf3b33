//! A call as jobs make it: recorded, paid for, and never repeated once it was answered.

use super::{Answer, Providers, Request};
use crate::{outcome::Stop, reporter::Reporter};
use shared::{kind::Endpoint, llm::Catalogue};
use std::time::Duration;
use tokio::sync::mpsc;

/// The models of this process.
pub(crate) struct Llm {
    _catalogue: Catalogue,
    _providers: Providers,
}

/// One call of a job.
pub(crate) struct Call<'a> {
    /// Which call of the job: unique in it, and the same in every attempt. A node's id, say.
    pub(crate) key: &'a str,
    /// Where the job came in.
    pub(crate) endpoint: Endpoint,
    /// What is asked.
    pub(crate) request: &'a Request,
    /// Where pieces of the answer go as they come. An answer that was recorded before is sent in one piece.
    pub(crate) tokens: Option<mpsc::Sender<String>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// Not now: the provider cools down, or what the budget has left is held by calls under way. No attempt is charged.
    Park {
        /// When to try again.
        after: Duration,
        /// For people.
        reason: String,
    },
    /// It did not work.
    Failed {
        /// Stable word: [`super::ErrorKind::code`], `llm_model_unknown`, `llm_not_served`, `budget_exceeded`.
        code: String,
        /// For people.
        message: String,
        /// Whether the same call may work later.
        passing: bool,
    },
    /// The attempt is over.
    Stop(Stop),
}

impl Llm {
    pub(crate) const fn new(catalogue: Catalogue, providers: Providers) -> Self {
        Self { _catalogue: catalogue, _providers: providers }
    }

    /// Asks a model, unless an earlier attempt of the same job has the answer to the same request.
    pub(crate) async fn call(&self, _reporter: &Reporter<'_>, _call: Call<'_>) -> Result<Answer, CallFailure> {
        Err(CallFailure::Failed { code: "not_built".to_owned(), message: String::new(), passing: false })
    }
}
