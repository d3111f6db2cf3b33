//! The life of one attempt, the same for every kind: run → settle → ack.
//!
//! The job has been claimed when it comes here, and its attempt counted. From then on every write names that attempt,
//! so that whatever happens to this process, another one can take over and this one can do no harm.

use crate::{
    context::{Context, StopReason},
    finisher::Finished,
    jobs,
    outcome::{Outcome, Stop},
    pools::Pool,
    reporter::Reporter,
    webhooks::Errand,
    write_error::{Pauses, WriteError},
};
use futures_util::{FutureExt, future::BoxFuture};
use shared::{
    models::{Ending, Failure, Finish, Job, JobStep, Waiting},
    queue::{Ack, Queue},
};
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};
use tracing::Instrument;

/// What an attempt begins with beside its job.
#[derive(Default)]
pub(crate) struct Luggage {
    /// The steps of earlier attempts, unless they could not be read.
    pub(crate) steps: Option<Vec<JobStep>>,
    /// What a webhook delivery brings along.
    pub(crate) errand: Errand,
}

/// How often the database may refuse the end of an attempt before it is given up.
const REFUSALS: usize = 5;

/// Runs a claimed job to the end of its attempt and says what Redis is to do with its id.
///
/// Boxed: through this many layers of borrowing futures the compiler no longer sees that the whole is `Send`.
pub(crate) fn execute<'a>(
    context: &'a Context,
    pool: &'a Pool,
    queue: &'a Queue,
    job: Job,
    luggage: Luggage,
) -> BoxFuture<'a, Ack> {
    let span = tracing::info_span!("job", id = %job.id, kind = %job.kind, attempt = job.attempt);
    attempt(context, pool, queue, job, luggage).instrument(span).boxed()
}

/// What is to be written down about an attempt.
enum End {
    Outcome(Outcome),
    Cancelled,
    HandBack,
    Lost,
}

async fn attempt(context: &Context, pool: &Pool, queue: &Queue, job: Job, luggage: Luggage) -> Ack {
    let registered = context.running.register(job.id, job.attempt);
    let started = std::time::Instant::now();
    let end = tokio::select! {
        biased;
        reason = registered.stop.raised() => match reason {
            StopReason::Cancelled => End::Cancelled,
            StopReason::HandBack => End::HandBack,
            StopReason::Lost => End::Lost,
        },
        end = run(context, pool, &job, luggage) => end,
    };
    let word = settle(context, pool, queue, &job, end).await;
    metrics::counter!("atelier_attempts_total", "kind" => job.kind.as_str(), "outcome" => word).increment(1);
    metrics::histogram!("atelier_attempt_duration_seconds", "kind" => job.kind.as_str()).record(started.elapsed());
    tracing::info!(outcome = word, ms = started.elapsed().as_millis(), "attempt ended");
    // a job that is to run again has been pushed with its new time; whatever else was to be said is in the row
    Ack::Done
}

/// The handler under its timeout; a panic is an outcome like any other.
async fn run(context: &Context, pool: &Pool, job: &Job, luggage: Luggage) -> End {
    let Luggage { steps, errand } = luggage;
    let handler = async {
        let steps = match steps {
            Some(steps) => steps,
            None => earlier_steps(context, job).await?,
        };
        let reporter = Reporter::new(context, job, steps);
        jobs::run(&reporter, job, errand).await
    };
    let caught = AssertUnwindSafe(handler).catch_unwind();
    match tokio::time::timeout(pool.timeout, caught).await {
        Ok(Ok(Ok(outcome))) => End::Outcome(outcome),
        Ok(Ok(Err(Stop::With(outcome)))) => End::Outcome(*outcome),
        Ok(Ok(Err(Stop::Lost))) => End::Lost,
        Ok(Err(panic)) => End::Outcome(retry("panic", format!("The job panicked: {}", panic_text(&*panic)))),
        Err(_) => {
            let seconds = pool.timeout.as_secs();
            End::Outcome(retry("timeout", format!("The attempt took longer than the {seconds} s of its pool.")))
        }
    }
}

/// Reads the steps of earlier attempts, and waits for a database that is away.
async fn earlier_steps(context: &Context, job: &Job) -> Result<Vec<JobStep>, WriteError> {
    let mut pauses = Pauses::new();
    loop {
        let steps = async { Ok(JobStep::list(&mut *context.pool.get().await?, job.id).await?) };
        match steps.await {
            Err(WriteError::Unreachable(_)) => pauses.pause().await,
            known => return known,
        }
    }
}

fn retry(code: &str, message: String) -> Outcome {
    Outcome::Retry { after: None, charge: true, failure: Failure { code: code.to_owned(), message } }
}

/// Writes the end down and tells the listeners. Postgres may be away for a while: the fence makes it safe to try until
/// it is back, and the heartbeat, which is away then too, makes it needless after the job was given to another.
async fn settle(context: &Context, pool: &Pool, queue: &Queue, job: &Job, end: End) -> &'static str {
    let mut pauses = Pauses::new();
    let mut refusals = 0;
    loop {
        match write(context, pool, queue, job, &end).await {
            Ok(word) => return word,
            Err(error @ WriteError::Unreachable(_)) => {
                tracing::warn!(%error, "the end of an attempt is not written, trying again")
            }
            Err(error @ WriteError::Refused(_)) if refusals < REFUSALS => {
                refusals += 1;
                tracing::warn!(%error, "the end of an attempt is not written, trying again");
            }
            Err(error @ WriteError::Refused(_)) => {
                tracing::error!(%error, "the end of an attempt is not written; the scheduler will take the job over");
                return "unwritten";
            }
        }
        pauses.pause().await;
    }
}

async fn write(
    context: &Context,
    pool: &Pool,
    queue: &Queue,
    job: &Job,
    end: &End,
) -> Result<&'static str, WriteError> {
    match end {
        End::Lost => Ok("lost"),
        End::Cancelled => finish(context, job, Ending::Cancelled, "cancelled").await,
        End::HandBack => {
            let failure =
                Failure { code: "handed_back".to_owned(), message: "The worker was asked to stop.".to_owned() };
            again(context, queue, job, Duration::ZERO, true, &failure, "handed_back").await
        }
        End::Outcome(Outcome::Done(result)) => {
            finish(context, job, Ending::Completed(result.clone()), "completed").await
        }
        End::Outcome(Outcome::Fail { failure, result }) => {
            finish(context, job, Ending::Failed(failure.clone(), result.clone()), "failed").await
        }
        End::Outcome(Outcome::TryAgain { after, tried, failure }) => {
            let mut conn = context.pool.get().await?;
            let waiting = tried.try_again(&mut conn, job.id, job.attempt, *after, failure).await;
            drop(conn);
            put_back(context, queue, job, waiting?, "retried").await
        }
        End::Outcome(Outcome::Retry { charge: true, failure, .. }) if job.charged_attempts() >= pool.attempts => {
            let failure = Failure { code: failure.code.clone(), message: last_words(job, pool, failure) };
            finish(context, job, Ending::Failed(failure, None), "failed").await
        }
        End::Outcome(Outcome::Retry { after, charge, failure }) => {
            let charged = u32::try_from(job.charged_attempts()).unwrap_or(1);
            let after = after.unwrap_or_else(|| pool.backoff.wait(charged));
            again(context, queue, job, after, !charge, failure, "retried").await
        }
    }
}

fn last_words(job: &Job, pool: &Pool, failure: &Failure) -> String {
    match job.charged_attempts() {
        1 => failure.message.clone(),
        _ => format!("{} (after {} attempts)", failure.message, pool.attempts),
    }
}

async fn finish(context: &Context, job: &Job, ending: Ending, word: &'static str) -> Result<&'static str, WriteError> {
    let finish = Finish { id: job.id, kind: job.kind, attempt: job.attempt, ending };
    match context.finisher.finish(finish).await? {
        Finished::Lost => return Ok("lost"),
        Finished::Quietly => {}
        Finished::Told(event) => context.publisher.publish(*event),
    }
    Ok(word)
}

async fn again(
    context: &Context,
    queue: &Queue,
    job: &Job,
    after: Duration,
    forgiven: bool,
    failure: &Failure,
    word: &'static str,
) -> Result<&'static str, WriteError> {
    let mut conn = context.pool.get().await?;
    let waiting = Job::retry(&mut conn, job.id, job.attempt, after, forgiven, failure).await;
    drop(conn);
    put_back(context, queue, job, waiting?, word).await
}

/// Tells Redis of a job that waits for its next attempt.
async fn put_back(
    context: &Context,
    queue: &Queue,
    job: &Job,
    waiting: Option<Waiting>,
    word: &'static str,
) -> Result<&'static str, WriteError> {
    let Some(waiting) = waiting else {
        // somebody asked for the end of the job, or it is another's
        return finish(context, job, Ending::Cancelled, "cancelled").await;
    };
    // a lost push is repaired by the scheduler
    if let Err(error) = queue.push(&[waiting.ticket()]).await {
        tracing::debug!(%error, "retry not pushed");
    }
    Ok(word)
}

/// Gives back a job that was claimed and not begun, as if it had not been claimed. Redis is told by the caller.
pub(crate) async fn hand_back(context: &Context, job: &Job) -> Result<(), WriteError> {
    let failure = Failure { code: "handed_back".to_owned(), message: "The worker stopped before it began.".to_owned() };
    let mut conn = context.pool.get().await?;
    let waiting = Job::retry(&mut conn, job.id, job.attempt, Duration::ZERO, true, &failure).await;
    drop(conn);
    if waiting?.is_none() {
        finish(context, job, Ending::Cancelled, "cancelled").await?;
    }
    Ok(())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
