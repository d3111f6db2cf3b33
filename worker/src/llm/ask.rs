//! One call under way: leave, record, send, record, as often as it is worth while.

use super::{
    Answer, Call, CallFailure, ErrorKind, LlmError, Providers, Request, bounds,
    record::{self, Records},
    relay::Relay,
};
use crate::{outcome::Stop, reporter::Reporter};
use shared::{
    llm::Served,
    models::{Closing, Outgoing, Reserved},
};
use std::time::{Duration, Instant};

/// Times that one model is asked in place, as long as nothing of an answer was passed on.
const TRIES: u32 = 3;

/// Upper bounds of the wait before another try in place: the first one, doubled each time.
const FIRST_WAIT_MS: u64 = 200;

/// How long a job waits, at least and at most, for what calls under way hold of a budget.
const BUDGET_WAIT_MS: std::ops::RangeInclusive<u64> = 600..=1_400;

/// The wait where a provider wants a rest and does not say how long.
const REST: Duration = Duration::from_secs(2);

/// What one try came to, where it did not come to an answer.
pub(super) enum Try {
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

/// One call under way.
pub(super) struct Asking<'a> {
    pub(super) providers: &'a Providers,
    pub(super) records: &'a Records,
    pub(super) reporter: &'a Reporter<'a>,
    pub(super) call: &'a Call<'a>,
    /// Of what is asked.
    pub(super) hash: &'a [u8],
}

impl Asking<'_> {
    /// Asks one model, several times if need be. `failed` are the models that were asked before.
    pub(super) async fn ask(&self, served: Served<'_>, relay: &mut Relay, failed: &[String]) -> Result<Answer, Try> {
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
            let is_last = !error.kind.is_passing() || relay.has_passed() || relay.is_deserted();
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
        let permit = match self.providers.admit(served.provider).await {
            Ok(permit) => permit,
            Err(hold) => return Err(Try::Rest { after: hold.after, reason: hold.reason }),
        };
        let request = bounds::fitted(self.call.request, served);
        self.reserve(served, &request).await?;
        let began = Instant::now();
        let sent = relay.send(self.providers, permit, served, &request).await;
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
        self.records.close(self.reporter, closing).await
    }
}
