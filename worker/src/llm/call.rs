//! A call as jobs make it: recorded, paid for, and never repeated once it was answered.

use super::{
    Answer, ErrorKind, Providers, Request,
    ask::{Asking, Try},
    bounds,
    record::{self, Records},
    relay::Relay,
};
use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use shared::{
    kind::Endpoint,
    llm::{Catalogue, LOCAL, Served},
    models::Failure,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// A rest of a provider that is waited for even where the catalogue names other models to ask.
const SHORT_REST: Duration = Duration::from_secs(5);

/// The models of this process.
pub(crate) struct Llm {
    catalogue: Catalogue,
    providers: Providers,
    records: Records,
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

impl CallFailure {
    /// What a job comes to whose only call this was.
    pub(crate) fn into_outcome(self) -> Result<Outcome, Stop> {
        match self {
            Self::Stop(stop) => Err(stop),
            Self::Park { after, reason } => {
                let failure = Failure { code: "llm_parked".to_owned(), message: reason };
                Ok(Outcome::Retry { after: Some(after), charge: false, failure })
            }
            Self::Failed { code, message, passing: true } => {
                Ok(Outcome::Retry { after: None, charge: true, failure: Failure { code, message } })
            }
            Self::Failed { code, message, passing: false } => {
                Ok(Outcome::Fail { failure: Failure { code, message }, result: None })
            }
        }
    }

    /// For people.
    fn reason(&self) -> &str {
        match self {
            Self::Park { reason: text, .. } | Self::Failed { message: text, .. } => text,
            Self::Stop(_) => "the attempt is over",
        }
    }

    const fn may_pass(&self) -> bool {
        match self {
            Self::Park { .. } | Self::Failed { passing: true, .. } => true,
            Self::Failed { passing: false, .. } | Self::Stop(_) => false,
        }
    }

    pub(super) fn for_good(code: &str, message: String) -> Self {
        Self::Failed { code: code.to_owned(), message, passing: false }
    }
}

impl Llm {
    pub(crate) fn new(catalogue: Catalogue, providers: Providers) -> Self {
        Self { catalogue, providers, records: Records::default() }
    }

    /// Waits until answers that came are written down.
    pub(crate) async fn settled(&self) {
        self.records.settled().await;
    }

    /// Asks a model, unless an earlier attempt of the same job has the answer to the same request.
    pub(crate) async fn call(&self, reporter: &Reporter<'_>, call: Call<'_>) -> Result<Answer, CallFailure> {
        let hash = bounds::hash(call.request);
        if let Some(answer) = record::find(reporter, call.key, &hash).await.map_err(CallFailure::Stop)? {
            if let Some(tokens) = call.tokens {
                // whoever listened may be gone
                let _ = tokens.send(answer.text.clone()).await;
            }
            return Ok(answer);
        }
        let served = self.primary(call.request)?;
        let mut relay = Relay::new(&call.request.stop, call.tokens.clone());
        let asking = Asking { providers: &self.providers, records: &self.records, reporter, call: &call, hash: &hash };
        let (mut failed, mut last) = (Vec::new(), None);
        let mut models = self.models(served, call.request).into_iter().peekable();
        while let Some(next) = models.next() {
            let failure = match asking.ask(next, &mut relay, &failed).await {
                Ok(answer) => return Ok(answer),
                Err(Try::End(failure)) => return Err(failure),
                Err(Try::Rest { after, reason }) if after > SHORT_REST && models.peek().is_some() => {
                    CallFailure::Park { after, reason }
                }
                Err(Try::Rest { after, reason }) => return Err(CallFailure::Park { after, reason }),
                Err(Try::Again(error)) => CallFailure::Failed {
                    code: error.kind.code().to_owned(),
                    message: error.message,
                    // nobody waits for another attempt
                    passing: error.kind.is_passing() && !relay.is_deserted(),
                },
            };
            failed.push(format!("{}: {}", next.model.id, failure.reason()));
            // the first that may pass decides whether another attempt is worth while
            last = last.filter(CallFailure::may_pass).or(Some(failure));
            // what was passed on cannot be taken back
            if relay.has_passed() || relay.is_deserted() {
                break;
            }
        }
        Err(match last {
            Some(CallFailure::Failed { code, passing, .. }) => {
                CallFailure::Failed { code, message: failed.join("; "), passing }
            }
            Some(other @ (CallFailure::Park { .. } | CallFailure::Stop(_))) => other,
            // the model that was asked for is always the first
            None => CallFailure::for_good("llm_not_served", format!("Nobody was asked for {:?}.", served.model.id)),
        })
    }

    /// Who answers for the model that is asked for.
    fn primary(&self, request: &Request) -> Result<Served<'_>, CallFailure> {
        let id = &request.model;
        if self.catalogue.find(id).is_none() {
            return Err(CallFailure::for_good("llm_model_unknown", format!("There is no model {id:?}.")));
        }
        let served = self.catalogue.find_served(id).ok_or_else(|| {
            CallFailure::for_good("llm_not_served", format!("The provider of the model {id:?} is not configured."))
        })?;
        if bounds::needs_vision(request) && !bounds::sees(served) {
            let message = format!("The model {id:?} does not see images.");
            return Err(CallFailure::for_good(ErrorKind::BadRequest.code(), message));
        }
        Ok(served)
    }

    /// The model that is asked for, and those that are asked in its place, in order.
    fn models<'a>(&'a self, served: Served<'a>, request: &Request) -> Vec<Served<'a>> {
        let fallbacks = served.model.fallback.iter().filter_map(|id| self.fallback(served, id, request));
        std::iter::once(served).chain(fallbacks).collect()
    }

    /// Who answers for a model that is asked in place of another. The local model stands in for one that was not
    /// configured, never for one that failed, unless the catalogue names it.
    fn fallback<'a>(&'a self, failed: Served<'_>, id: &str, request: &Request) -> Option<Served<'a>> {
        let served = self.catalogue.find_served(id)?;
        let is_stand_in = served.local && !failed.local && served.model.provider != LOCAL;
        let fits = !bounds::needs_vision(request) || bounds::sees(served);
        (fits && !is_stand_in).then_some(served)
    }
}
