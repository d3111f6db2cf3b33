//! The steps of one attempt: skipped where they were finished before, otherwise run, recorded and announced.

use crate::{
    context::Context,
    outcome::Stop,
    write_error::{Pauses, WriteError},
};
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared::{
    events::{Change, Event, LogLevel, Progress},
    models::{Job, JobEvent, JobImage, JobStep, StepChange, StepKey, StepStatus, Taker},
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};
use tokio::sync::Mutex;
use uuid::Uuid;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Records what one attempt does. Every write passes the fence: it counts only while this attempt holds the job.
pub(crate) struct Reporter<'a> {
    pub(crate) context: &'a Context,
    pub(crate) job: &'a Job,
    pub(crate) job_id: Uuid,
    /// Results of steps finished by earlier attempts.
    finished: HashMap<(Uuid, String), Finished>,
    /// Steps that earlier attempts had begun.
    begun: HashMap<(Uuid, String), DateTime<Utc>>,
    /// Steps that earlier attempts found not to run.
    skipped: HashSet<(Uuid, String)>,
    /// Steps that ended, or will not run any more.
    ended: Mutex<u32>,
    total: u32,
    /// Of a batch that several workers share: who writes here about its images.
    taker: Option<Taker>,
}

/// What became of a write.
enum Recorded {
    Now(Event),
    /// An earlier try had come through, unheard.
    Before,
    /// Another attempt holds the job.
    Lost,
    /// What follows from it does not fit any more; nothing was written.
    Overtaken,
}

struct Finished {
    result: Value,
    duration_ms: i64,
}

/// What follows from a step: writes in the transaction that records it, tried again with it if need be. It owns what it
/// writes; `nothing` is one. If it finds that others have changed what it builds on, it says `RollbackTransaction`.
pub(crate) trait Also:
    for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send + Sync
{
}

impl<F> Also for F where F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send + Sync {}

/// Names what follows; the compiler needs this detour to see the closure's signature.
pub(crate) fn also<F>(writes: F) -> F
where
    F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send + Sync,
{
    writes
}

/// Nothing follows.
pub(crate) fn nothing(_: &mut AsyncPgConnection) -> BoxFuture<'_, QueryResult<()>> {
    std::future::ready(Ok(())).boxed()
}

/// A step that began.
pub(crate) struct Begun<'k> {
    key: StepKey<'k>,
    started_at: DateTime<Utc>,
}

impl<'k> Begun<'k> {
    /// A step whose beginning is not announced: it was before, or it ends at once.
    pub(crate) const fn at(key: StepKey<'k>, started_at: DateTime<Utc>) -> Self {
        Self { key, started_at }
    }

    /// The same beginning.
    pub(crate) const fn again(&self) -> Self {
        Self { key: self.key, started_at: self.started_at }
    }

    pub(crate) const fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }
}

impl<'a> Reporter<'a> {
    /// Sorts out what earlier attempts finished.
    pub(crate) fn new(context: &'a Context, job: &'a Job, steps: Vec<JobStep>) -> Self {
        // a part of another step is no step of its own to those who count
        let counted = || steps.iter().filter(|step| step.position >= 0);
        // an item that failed runs none of its steps any more
        let failed: HashSet<Uuid> =
            counted().filter(|step| step.status == StepStatus::Failed).map(|step| step.item).collect();
        let over = |step: &&JobStep| {
            matches!(step.status, StepStatus::Completed | StepStatus::Skipped) || failed.contains(&step.item)
        };
        let ended = counted().filter(over).count();
        let total = u32::try_from(counted().count()).unwrap_or(u32::MAX);
        let of_status = |status| steps.iter().filter(move |step| step.status == status);
        let begun = of_status(StepStatus::Running)
            .filter_map(|step| Some(((step.item, step.name.clone()), step.started_at?)))
            .collect();
        let skipped = of_status(StepStatus::Skipped).map(|step| (step.item, step.name.clone())).collect();
        let finished = steps
            .into_iter()
            .filter(|step| step.status == StepStatus::Completed)
            .map(|step| {
                let finished = Finished { result: step.result, duration_ms: step.duration_ms.unwrap_or_default() };
                ((step.item, step.name), finished)
            })
            .collect();
        Self {
            context,
            job,
            job_id: job.id,
            finished,
            begun,
            skipped,
            ended: Mutex::new(u32::try_from(ended).unwrap_or(u32::MAX)),
            total,
            taker: None,
        }
    }

    /// One of several that write about the images of a batch: each write counts only while its image is this taker's.
    pub(crate) const fn sharing(mut self, taker: Taker) -> Self {
        self.taker = Some(taker);
        self
    }

    /// The result and the duration in milliseconds of a step that an earlier attempt finished.
    ///
    /// A result that no longer reads (its form changed with an upgrade) counts as not finished.
    pub(crate) fn finished<T: DeserializeOwned>(&self, key: StepKey<'_>) -> Option<(T, i64)> {
        let finished = self.finished.get(&(key.item, key.name.to_owned()))?;
        Some((serde_json::from_value(finished.result.clone()).ok()?, finished.duration_ms))
    }

    /// Since when a step runs that an earlier attempt began and did not end.
    pub(crate) fn begun_before(&self, key: StepKey<'_>) -> Option<DateTime<Utc>> {
        self.begun.get(&(key.item, key.name.to_owned())).copied()
    }

    /// Whether an earlier attempt found that a step is not to run.
    pub(crate) fn was_skipped(&self, key: StepKey<'_>) -> bool {
        self.skipped.contains(&(key.item, key.name.to_owned()))
    }

    /// Announces that the job begins, unless that was told before.
    pub(crate) async fn job_started(&self) -> Result<(), Stop> {
        if self.job.last_seq > 0 {
            return Ok(());
        }
        let mut pauses = Pauses::new();
        loop {
            match self.try_to_tell(Change::JobStarted).await {
                Ok(()) => return Ok(()),
                Err(error @ WriteError::Unreachable(_)) => {
                    tracing::warn!(%error, "the start of a job is not written, trying again");
                }
                Err(error @ WriteError::Refused(_)) => return Err(error.into()),
            }
            pauses.pause().await;
        }
    }

    /// Tells listeners something that changes no step. It is tried once: nothing hangs on it.
    pub(crate) async fn log(&self, level: LogLevel, step: Option<&str>, message: impl Into<String>) {
        let change = Change::Log { level, step: step.map(ToOwned::to_owned), message: message.into() };
        if let Err(error) = self.try_to_tell(change).await {
            tracing::warn!(%error, "a notice is not written");
        }
    }

    async fn try_to_tell(&self, change: Change) -> Result<(), WriteError> {
        // held: see `record`
        let ended = self.ended.lock().await;
        let progress = Progress { completed: *ended, total: self.total };
        let mut conn = self.context.pool.get().await?;
        let event = JobEvent::record(&mut conn, self.job_id, self.job.attempt, change, progress).await?;
        // an attempt that lost its job hears of it with its next step
        if let Some(event) = event {
            self.context.publisher.publish(event);
        }
        Ok(())
    }

    /// Announces that a step begins.
    pub(crate) async fn begin<'k>(&self, key: StepKey<'k>) -> Result<Begun<'k>, Stop> {
        let begun = Begun { key, started_at: Utc::now() };
        let change = change(&begun, StepStatus::Running, None, json!({}));
        self.record(change, 0, nothing).await?;
        Ok(begun)
    }

    /// Records a finished step together with what follows from it (`also`), and returns how long it took, in
    /// milliseconds.
    pub(crate) async fn complete<T: Serialize>(
        &self,
        begun: Begun<'_>,
        result: &T,
        also: impl Also,
    ) -> Result<i64, Stop> {
        let result = serde_json::to_value(result).map_err(|error| {
            Stop::retry("result_unwritable", format!("The result of {} is no JSON: {error}", begun.key.name))
        })?;
        self.record(change(&begun, StepStatus::Completed, None, result), 1, also).await?;
        Ok((Utc::now() - begun.started_at).num_milliseconds())
    }

    /// As [`Reporter::complete`]; listeners are told this in place of the result. A part of another step ends no step of
    /// its own. `false`: nothing was recorded, since what follows does not fit any more.
    pub(crate) async fn complete_told(
        &self,
        begun: &Begun<'_>,
        result: Value,
        told: Value,
        also: impl Also,
    ) -> Result<bool, Stop> {
        let ends = u32::from(begun.key.position >= 0);
        let change = StepChange { told: Some(told), ..change(begun, StepStatus::Completed, None, result) };
        self.record(change, ends, also).await
    }

    /// Records that a step is not to run.
    pub(crate) async fn skip(&self, key: StepKey<'_>) -> Result<(), Stop> {
        let begun = Begun::at(key, Utc::now());
        let told = json!({ "message": "It belongs to a branch that was not taken." });
        let change = StepChange { told: Some(told), ..change(&begun, StepStatus::Skipped, None, json!({})) };
        self.record(change, u32::from(key.position >= 0), nothing).await?;
        Ok(())
    }

    /// Records a step that failed for good together with what follows from it. `skipped` steps of the same item will
    /// not run any more.
    pub(crate) async fn fail(
        &self,
        begun: Begun<'_>,
        message: &str,
        skipped: u32,
        also: impl Also,
    ) -> Result<(), Stop> {
        let change = change(&begun, StepStatus::Failed, Some(message.to_owned()), json!({}));
        self.record(change, 1 + skipped, also).await?;
        Ok(())
    }

    /// Writes until it is written: what a step found may have been dear. The attempt's timeout is the limit.
    /// `ends` steps have ended then. `false`: what follows does not fit any more, and nothing was written.
    async fn record(&self, mut change: StepChange<'_>, ends: u32, also: impl Also) -> Result<bool, Stop> {
        // one write of a job at a time, as the database would have it anyway: so the progress never goes back
        let mut ended = self.ended.lock().await;
        change.progress = Progress { completed: (*ended + ends).min(self.total), total: self.total };
        let mut pauses = Pauses::new();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_record(&change, ends, &also, tries).await {
                Ok(Recorded::Now(event)) => {
                    *ended += ends;
                    self.context.publisher.publish(event);
                    return Ok(true);
                }
                Ok(Recorded::Before) => {
                    *ended += ends;
                    return Ok(true);
                }
                Ok(Recorded::Overtaken) => return Ok(false),
                Ok(Recorded::Lost) => return Err(Stop::Lost),
                Err(error @ WriteError::Unreachable(_)) => {
                    tracing::warn!(step = change.key.name, %error, "a step is not written, trying again")
                }
                Err(error @ WriteError::Refused(_)) => return Err(error.into()),
            }
            pauses.pause().await;
        }
    }

    async fn try_to_record(
        &self,
        change: &StepChange<'_>,
        ends: u32,
        also: &impl Also,
        tries: u32,
    ) -> Result<Recorded, WriteError> {
        let conn = &mut *self.context.pool.get().await?;
        // not `transaction(closure)`: the compiler cannot see that a closure inside a closure is `Send`. A transaction
        // left open by an early return ends with the connection, which is closed then.
        Transactions::begin_transaction(conn).await?;
        // the commit may have come through when its answer did not
        if tries > 1 && JobStep::is_recorded(conn, self.job_id, self.job.attempt, change).await? {
            Transactions::rollback_transaction(conn).await?;
            return Ok(Recorded::Before);
        }
        let mut change = Cow::Borrowed(change);
        if let Some(taker) = self.taker {
            let batch = Taker { job_id: self.job_id, attempt: self.job.attempt };
            let Some(progress) = JobImage::hold(conn, batch, change.key.item, taker).await? else {
                Transactions::rollback_transaction(conn).await?;
                return Ok(Recorded::Lost);
            };
            // others write, too: how far it is, only the rows know
            change.to_mut().progress = Progress { completed: progress.completed + ends, total: progress.total };
        }
        let Some(event) = JobStep::record(conn, self.job_id, self.job.attempt, &change).await? else {
            Transactions::rollback_transaction(conn).await?;
            return Ok(Recorded::Lost);
        };
        match also(conn).await {
            Err(diesel::result::Error::RollbackTransaction) => {
                Transactions::rollback_transaction(conn).await?;
                return Ok(Recorded::Overtaken);
            }
            written => written?,
        }
        Transactions::commit_transaction(conn).await?;
        Ok(Recorded::Now(event))
    }
}

/// A change whose progress is filled in when it is written.
fn change<'k>(begun: &Begun<'k>, status: StepStatus, error_message: Option<String>, result: Value) -> StepChange<'k> {
    StepChange {
        key: begun.key,
        status,
        started_at: begun.started_at,
        error_message,
        result,
        told: None,
        progress: Progress::default(),
    }
}
