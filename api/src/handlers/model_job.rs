//! Asking a language model: a job is accepted, its words are heard as they come, and its end is the answer.
//!
//! Every door to a model goes through here: plain requests wait for the end, streams and sockets pass the pieces on. A
//! piece is passed on only where it follows what was passed on before; whoever misses one hears nothing more until the
//! end, and then the rest of the stored text, which is the same.

use super::{awaiting::Awaited, jobs::stop_job};
use crate::{
    auth::Caller,
    error::{ApiError, Code},
    idempotency::once,
    live::{Live, Subscription},
    metering,
    state::State,
};
use actix_web::web;
use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use diesel_async::AsyncPgConnection;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use shared::{
    events::{Tokens, tokens_channel},
    kind::Payload,
    models::{Job, JobStatus, NewJob, Quota},
};
use std::time::Duration;
use tokio::{join, sync::broadcast::error::RecvError};
use uuid::Uuid;

/// How long a request waits for the whole answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a stream may last: as long as its job may run.
const STREAM_PATIENCE: Duration = Duration::from_secs(300);

/// A question on its way.
pub(super) struct ModelJob {
    state: web::Data<State>,
    /// The job that answers.
    pub(super) id: Uuid,
    user_id: Uuid,
    /// When the question was accepted.
    pub(super) created_at: DateTime<Utc>,
    tokens: Option<Subscription>,
    end: LocalBoxFuture<'static, Result<Option<Job>, ApiError>>,
    patience: Duration,
    heard: Pieces,
}

/// What a model says.
#[derive(Debug)]
pub(super) enum Said {
    /// The next piece of the text.
    Piece(String),
    /// All of it: the job, which has completed. Nothing follows.
    Done(Box<Job>),
    /// Why there is no answer. Nothing follows.
    Failed(ApiError),
}

impl ModelJob {
    /// Accepts a question. With `pieces` its words are heard as they come.
    ///
    /// # Errors
    /// 429 if the quota is used up, 503 if the database is away.
    pub(super) async fn accept(
        state: &web::Data<State>,
        caller: &Caller,
        payload: Payload,
        pieces: bool,
    ) -> Result<Self, ApiError> {
        let new = NewJob::new(caller.user_id, caller.organization_id, caller.weight(), payload);
        let channel = tokens_channel(&state.config.redis.prefix, new.id);
        let tokens = async { if pieces { Some(state.live.subscribe(&channel).await) } else { None } };
        let insert = async {
            let accept = async |conn: &mut AsyncPgConnection| {
                let job = Job::insert(conn, &new).await?;
                Ok((job, metering::reserve(state, conn, caller, new.id).await?))
            };
            once(&mut *state.conn().await?, accept).await
        };
        // all ears are open before anybody hears of the job
        let (awaited, tokens, inserted) = join!(Awaited::listen(state, new.id), tokens, insert);
        let (job, hints) = inserted?;
        state.push(&job.queue, &[new.ticket()]).await;
        state.hint(&hints).await;
        let patience = if pieces { STREAM_PATIENCE } else { PATIENCE };
        let waiting = state.clone();
        Ok(Self {
            state: state.clone(),
            id: job.id,
            user_id: job.user_id,
            created_at: job.created_at,
            tokens,
            end: Box::pin(async move { awaited.end(&waiting, patience).await }),
            patience,
            heard: Pieces::default(),
        })
    }

    /// Waits for the next word. Dropping the wait loses nothing; after the last word it must not be called again.
    pub(super) async fn next(&mut self) -> Said {
        loop {
            tokio::select! {
                // what was said before the end goes out before it
                biased;
                message = hear(&mut self.tokens) => match message {
                    Ok(Live::Message(message)) => {
                        if let Ok(tokens) = serde_json::from_slice::<Tokens>(&message)
                            && let Some(piece) = self.heard.place(tokens)
                        {
                            return Said::Piece(piece);
                        }
                    }
                    // whatever is missing shows in the next piece
                    Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.tokens = None,
                },
                ended = &mut self.end => return self.conclude(ended).await,
            }
        }
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// 400, 429, 502 or 503 if there is none.
    pub(super) async fn answer(mut self) -> Result<Box<Job>, ApiError> {
        loop {
            match self.next().await {
                Said::Piece(_) => {}
                Said::Done(job) => return Ok(job),
                Said::Failed(error) => return Err(error),
            }
        }
    }

    /// What of the stored text was not passed on yet.
    ///
    /// # Errors
    /// 502 if what was passed on is not how it begins: another attempt of the job said something else.
    pub(super) fn rest<'a>(&self, text: &'a str) -> Result<&'a str, ApiError> {
        text.strip_prefix(self.heard.text.as_str()).ok_or_else(|| {
            ApiError::ai_service("The model was interrupted and began anew; ask again for the whole answer")
        })
    }

    /// Ends the job: nobody waits for it any more.
    pub(super) async fn cancel(&self) {
        let stopped = async {
            let mut conn = self.state.conn().await?;
            stop_job(&self.state, &mut conn, self.id, self.user_id).await
        };
        if let Err(error) = stopped.await {
            tracing::debug!(%error, job_id = %self.id, "a job that nobody waits for was not cancelled");
        }
    }

    /// Ends a job that was waited for in vain: the request has failed, and is not counted.
    async fn give_up(&self) {
        let given_back = async { Ok::<_, ApiError>(Quota::give_back(&mut *self.state.conn().await?, self.id).await?) };
        if let Err(error) = given_back.await {
            tracing::warn!(%error, job_id = %self.id, "a request that failed stays counted");
        }
        self.cancel().await;
    }

    async fn conclude(&self, ended: Result<Option<Job>, ApiError>) -> Said {
        match ended {
            Ok(Some(job)) if job.status == JobStatus::Completed => Said::Done(Box::new(job)),
            Ok(Some(job)) => Said::Failed(failure(&job, Utc::now())),
            Ok(None) => {
                self.give_up().await;
                let seconds = self.patience.as_secs();
                Said::Failed(ApiError::ai_service(format!(
                    "The model did not answer within {seconds} s; the request was cancelled"
                )))
            }
            Err(error) => {
                self.give_up().await;
                Said::Failed(error)
            }
        }
    }
}

/// The next message; never one where none are listened to.
async fn hear(tokens: &mut Option<Subscription>) -> Result<Live, RecvError> {
    match tokens {
        Some(subscription) => subscription.receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// The pieces of one attempt, as far as they follow each other.
#[derive(Debug, Default)]
struct Pieces {
    attempt: Option<i32>,
    text: String,
    broken: bool,
}

impl Pieces {
    /// What is to be passed on of a piece that came in.
    fn place(&mut self, tokens: Tokens) -> Option<String> {
        let attempt = *self.attempt.get_or_insert(tokens.attempt);
        if self.broken || (attempt == tokens.attempt && tokens.offset + tokens.text.len() <= self.text.len()) {
            return None;
        }
        if attempt != tokens.attempt || tokens.offset != self.text.len() {
            self.broken = true;
            return None;
        }
        self.text.push_str(&tokens.text);
        Some(tokens.text)
    }
}

/// What is said about a job that ended without an answer.
fn failure(job: &Job, now: DateTime<Utc>) -> ApiError {
    let message = job.error_message.clone().unwrap_or_else(|| "The model did not answer".to_owned());
    match (job.status, job.error_code.as_deref()) {
        (JobStatus::Cancelled, _) => ApiError::ai_service("The request was cancelled before it was answered"),
        (_, Some("budget_exceeded")) => ApiError::quota_exceeded(message, until_next_month(now)),
        (_, Some("llm_bad_request")) => ApiError::new(Code::Validation, message),
        (_, Some("llm_model_unknown" | "llm_not_served")) => ApiError::invalid_field("model", message),
        (_, Some(_) | None) => ApiError::ai_service(message),
    }
}

/// Seconds until budgets begin anew, at least 1.
fn until_next_month(now: DateTime<Utc>) -> u64 {
    let first = NaiveDate::from_ymd_opt(now.year(), now.month(), 1);
    let next = first.and_then(|day| day.checked_add_months(Months::new(1))).and_then(|day| day.and_hms_opt(0, 0, 0));
    let seconds = next.map_or(1, |next| (next.and_utc() - now).num_seconds() + 1);
    u64::try_from(seconds).unwrap_or(1).max(1)
}

/// Reads the result of a job that has completed.
///
/// # Errors
/// 500 if it is not what such a job leaves.
pub(super) fn result<T: DeserializeOwned>(job: &Job) -> Result<T, ApiError> {
    let result = job.result.clone().unwrap_or_default();
    serde_json::from_value(result)
        .map_err(|error| ApiError::internal(anyhow::anyhow!("the result of job {} cannot be read: {error}", job.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(attempt: i32, offset: usize, text: &str) -> Tokens {
        Tokens { attempt, offset, text: text.to_owned() }
    }

    #[test]
    fn pieces_are_passed_on_once_and_only_in_order() {
        let mut heard = Pieces::default();
        assert_eq!(heard.place(tokens(1, 0, "Hé")).as_deref(), Some("Hé"));
        assert_eq!(heard.place(tokens(1, 0, "Hé")), None, "it came before");
        assert_eq!(heard.place(tokens(1, 3, "llo")).as_deref(), Some("llo"));
        assert_eq!(heard.place(tokens(1, 9, "gap")), None);
        assert_eq!(heard.place(tokens(1, 6, "late")), None, "after a gap nothing is passed on");
        assert_eq!(heard.text, "Héllo");
    }

    #[test]
    fn another_attempt_is_not_mixed_in() {
        let mut heard = Pieces::default();
        assert!(heard.place(tokens(1, 0, "One")).is_some());
        assert_eq!(heard.place(tokens(2, 3, "Two")), None);
        assert_eq!(heard.place(tokens(1, 3, "Three")), None);
        assert_eq!(heard.text, "One");
    }

    #[test]
    fn budgets_begin_anew_with_the_month() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap_or_default();
        assert_eq!(until_next_month(at("2026-12-31T23:59:59Z")), 2);
        assert_eq!(until_next_month(at("2026-02-28T00:00:00Z")), 86_401);
    }
}
