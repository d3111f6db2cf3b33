//! A call as jobs make it: recorded, paid for, and never repeated once it was answered.

use super::{
    Answer, ErrorKind, LlmError, Providers, Request, bounds,
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
    models::{Closing, Failure, Outgoing, Reserved},
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Times that one model is asked in place, as long as nothing of an answer was passed on.
const TRIES: u32 = 3;

/// Upper bounds of the wait before another try in place: the first one, doubled each time.
const FIRST_WAIT_MS: u64 = 200;

/// How long a job waits, at least and at most, for what calls under way hold of a budget.
const BUDGET_WAIT_MS: std::ops::RangeInclusive<u64> = 600..=1_400;

/// A rest of a provider that is waited for even where the catalogue names other models to ask.
const SHORT_REST: Duration = Duration::from_secs(5);

/// The wait where a provider wants a rest and does not say how long.
const REST: Duration = Duration::from_secs(2);

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

/// What one try came to, where it did not come to an answer.
enum Try {
    /// The model or its provider failed; another try or another model may not.
    Again(LlmError),
    /// The provider wants a rest.
    Rest { after: Duration, reason: String },
    /// No other try of this attempt will do better.
    End(CallFailure),
}

impl From<Stop> for Try {
    fn from(stop: Stop) -> Self {
        Self::End(CallFailure::Stop(stop))
    }
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

    fn for_good(code: &str, message: String) -> Self {
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
        let asking = Asking { llm: self, reporter, call: &call, hash: &hash };
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
                    passing: error.kind.is_passing(),
                },
            };
            failed.push(format!("{}: {}", next.model.id, failure.reason()));
            last = Some(failure);
            // what was passed on cannot be taken back
            if relay.has_passed() {
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

/// One call under way.
struct Asking<'a> {
    llm: &'a Llm,
    reporter: &'a Reporter<'a>,
    call: &'a Call<'a>,
    hash: &'a [u8],
}

impl Asking<'_> {
    /// Asks one model, several times if need be. `failed` are the models that were asked before.
    async fn ask(&self, served: Served<'_>, relay: &mut Relay, failed: &[String]) -> Result<Answer, Try> {
        let mut earlier: Option<LlmError> = None;
        for tries in 0..TRIES {
            let error = match (self.once(served, relay, failed).await, earlier.take()) {
                (Err(Try::Again(error)), _) => error,
                // after an error, a rest is no longer worth waiting for
                (Err(Try::Rest { .. }), Some(error)) => {
                    earlier = Some(error);
                    break;
                }
                (ended, _) => return ended,
            };
            let (provider, code) = (served.provider.name.clone(), error.kind.code());
            metrics::counter!("atelier_llm_errors_total", "provider" => provider, "code" => code).increment(1);
            tracing::warn!(model = served.model.id, code, %error, "a model did not answer");
            let is_last = !error.kind.is_passing() || relay.has_passed();
            earlier = Some(error);
            if is_last {
                break;
            }
            if tries + 1 < TRIES {
                let wait = rand::random_range(0..=FIRST_WAIT_MS << tries);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
        let error = earlier.unwrap_or_else(|| LlmError {
            kind: ErrorKind::Connect,
            status: None,
            retry_after: None,
            message: "nobody was asked".to_owned(),
        });
        self.close(Err((error.kind.code().to_owned(), error.message.clone())), 0).await?;
        Err(Try::Again(error))
    }

    /// Leave, record, send, record. A try that failed and may be made again keeps its record and what it holds.
    async fn once(&self, served: Served<'_>, relay: &mut Relay, failed: &[String]) -> Result<Answer, Try> {
        let permit = match self.llm.providers.admit(served.provider).await {
            Ok(permit) => permit,
            Err(hold) => return Err(Try::Rest { after: hold.after, reason: hold.reason }),
        };
        let request = bounds::fitted(self.call.request, served);
        self.reserve(served, &request).await?;
        let began = Instant::now();
        let sent = relay.send(&self.llm.providers, permit, served, &request).await;
        let latency_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        match sent {
            Ok(said) => {
                let answer = Answer {
                    text: said.text,
                    finish: said.finish,
                    prompt_tokens: said.prompt_tokens,
                    completion_tokens: said.completion_tokens,
                    estimated: said.estimated,
                    cost_nanos: served.cost_nanos(said.prompt_tokens, said.completion_tokens),
                    provider: served.provider.name.clone(),
                    answered_by: served.upstream.to_owned(),
                    local: served.local,
                    latency_ms,
                    fallbacks: failed.to_vec(),
                    recorded: false,
                };
                self.close(Ok(&answer), latency_ms).await?;
                Ok(answer)
            }
            Err(error) if matches!(error.kind, ErrorKind::RateLimited | ErrorKind::Overloaded) => {
                let after = error.retry_after.unwrap_or(REST);
                self.close(Err((error.kind.code().to_owned(), error.message.clone())), latency_ms).await?;
                Err(Try::Rest { after, reason: error.message })
            }
            Err(error) => Err(Try::Again(error)),
        }
    }

    async fn reserve(&self, served: Served<'_>, request: &Request) -> Result<(), Try> {
        let prompt = bounds::prompt_tokens(request);
        let completion = i64::from(request.max_tokens);
        let outgoing = Outgoing {
            job_id: self.reporter.job_id,
            attempt: self.reporter.job.attempt,
            call: self.call.key,
            request_hash: self.hash,
            endpoint: self.call.endpoint,
            model: &self.call.request.model,
            provider: &served.provider.name,
            answered_by: served.upstream,
            tokens: prompt.saturating_add(completion),
            cost_nanos: served.cost_nanos(prompt, completion),
        };
        match record::reserve(self.reporter, &outgoing).await? {
            Reserved::Sent => Ok(()),
            Reserved::Lost => Err(Stop::Lost.into()),
            Reserved::Taken => {
                let reason = "What is left of the budget is held by calls under way.".to_owned();
                let after = Duration::from_millis(rand::random_range(BUDGET_WAIT_MS));
                Err(Try::End(CallFailure::Park { after, reason }))
            }
            Reserved::Exceeded => {
                let message = "The budget has not enough left for this call.".to_owned();
                Err(Try::End(CallFailure::for_good("budget_exceeded", message)))
            }
        }
    }

    async fn close(&self, answer: Result<&Answer, (String, String)>, latency_ms: i64) -> Result<(), Stop> {
        let (prompt_tokens, completion_tokens, cost_nanos) = answer
            .as_ref()
            .map_or((0, 0, 0), |answer| (answer.prompt_tokens, answer.completion_tokens, answer.cost_nanos));
        let answer = match answer {
            Ok(answer) => Ok(serde_json::to_value(answer)
                .map_err(|error| Stop::retry("answer_unwritable", format!("An answer is no JSON: {error}")))?),
            Err(failure) => Err(failure),
        };
        let closing = Closing {
            job_id: self.reporter.job_id,
            attempt: self.reporter.job.attempt,
            call: self.call.key.to_owned(),
            answer,
            prompt_tokens,
            completion_tokens,
            cost_nanos,
            latency_ms,
        };
        self.llm.records.close(self.reporter, closing).await
    }
}
