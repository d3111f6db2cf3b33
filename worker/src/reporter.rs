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
    events::{Event, Progress},
    models::{Job, JobStep, StepChange, StepKey, StepStatus},
};
use std::collections::{HashMap, HashSet};
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
    /// Steps that ended, or will not run any more.
    ended: Mutex<u32>,
    total: u32,
}

/// What became of a write.
enum Recorded {
    Now(Event),
    /// An earlier try had come through, unheard.
    Before,
    /// Another attempt holds the job.
    Lost,
}

struct Finished {
    result: Value,
    duration_ms: i64,
}

/// What follows from a step: writes in the transaction that records it, tried again with it if need be. It owns what it
/// writes; `nothing` is one.
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

impl<'a> Reporter<'a> {
    /// Sorts out what earlier attempts finished.
    pub(crate) fn new(context: &'a Context, job: &'a Job, steps: Vec<JobStep>) -> Self {
        // a part of another step is no step of its own to those who count
        let counted = || steps.iter().filter(|step| step.position >= 0);
        // an item that failed runs none of its steps any more
        let failed: HashSet<Uuid> =
            counted().filter(|step| step.status == StepStatus::Failed).map(|step| step.item).collect();
        let ended =
            counted().filter(|step| step.status == StepStatus::Completed || failed.contains(&step.item)).count();
        let total = u32::try_from(counted().count()).unwrap_or(u32::MAX);
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
            ended: Mutex::new(u32::try_from(ended).unwrap_or(u32::MAX)),
            total,
        }
    }

    /// The result and the duration in milliseconds of a step that an earlier attempt finished.
    ///
    /// A result that no longer reads (its form changed with an upgrade) counts as not finished.
    pub(crate) fn finished<T: DeserializeOwned>(&self, key: StepKey<'_>) -> Option<(T, i64)> {
        let finished = self.finished.get(&(key.item, key.name.to_owned()))?;
        Some((serde_json::from_value(finished.result.clone()).ok()?, finished.duration_ms))
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
        self.record(change, 1 + skipped, also).await
    }

    /// Writes until it is written: what a step found may have been dear. The attempt's timeout is the limit.
    /// `ends` steps have ended then.
    async fn record(&self, mut change: StepChange<'_>, ends: u32, also: impl Also) -> Result<(), Stop> {
        // one write of a job at a time, as the database would have it anyway: so the progress never goes back
        let mut ended = self.ended.lock().await;
        change.progress = Progress { completed: (*ended + ends).min(self.total), total: self.total };
        let mut pauses = Pauses::new();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_record(&change, &also, tries).await {
                Ok(Recorded::Now(event)) => {
                    *ended += ends;
                    self.context.publisher.publish(event);
                    return Ok(());
                }
                Ok(Recorded::Before) => {
                    *ended += ends;
                    return Ok(());
                }
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
        also: &impl Also,
        tries: u32,
    ) -> Result<Recorded, WriteError> {
        let mut conn = self.context.pool.get().await?;
        // not `transaction(closure)`: the compiler cannot see that a closure inside a closure is `Send`. A transaction
        // left open by an early return is noticed by the pool, which then drops the connection.
        Transactions::begin_transaction(&mut *conn).await?;
        // the commit may have come through when its answer did not
        if tries > 1 && JobStep::is_recorded(&mut conn, self.job_id, self.job.attempt, change).await? {
            Transactions::rollback_transaction(&mut *conn).await?;
            return Ok(Recorded::Before);
        }
        let Some(event) = JobStep::record(&mut conn, self.job_id, self.job.attempt, change).await? else {
            Transactions::rollback_transaction(&mut *conn).await?;
            return Ok(Recorded::Lost);
        };
        also(&mut conn).await?;
        Transactions::commit_transaction(&mut *conn).await?;
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
