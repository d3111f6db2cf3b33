//! The steps of one attempt: skipped where they were finished before, otherwise run, recorded and announced.

use crate::{context::Context, outcome::Stop};
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared::{
    events::Progress,
    models::{Job, JobStep, StepChange, StepKey, StepStatus},
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};
use uuid::Uuid;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Records what one attempt does. Every write passes the fence: it counts only while this attempt holds the job.
pub(crate) struct Reporter<'a> {
    pub(crate) context: &'a Context,
    pub(crate) job_id: Uuid,
    attempt: i32,
    /// Results of steps finished by earlier attempts.
    finished: HashMap<(Uuid, String), Finished>,
    ended: AtomicU32,
    total: u32,
}

struct Finished {
    result: Value,
    duration_ms: i64,
}

/// What follows from a step: writes in the transaction that records it. It owns what it writes; `nothing` is one.
pub(crate) trait Also:
    for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send
{
}

impl<F> Also for F where F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send {}

/// Names what follows; the compiler needs this detour to see the closure's signature.
pub(crate) fn also<F>(writes: F) -> F
where
    F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> + Send,
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
    pub(crate) fn new(context: &'a Context, job: &Job, steps: Vec<JobStep>) -> Self {
        let ended =
            steps.iter().filter(|step| matches!(step.status, StepStatus::Completed | StepStatus::Failed)).count();
        let total = u32::try_from(steps.len()).unwrap_or(u32::MAX);
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
            job_id: job.id,
            attempt: job.attempt,
            finished,
            ended: AtomicU32::new(u32::try_from(ended).unwrap_or(u32::MAX)),
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
        let change = self.change(&begun, StepStatus::Running, None, json!({}), self.ended.load(Ordering::Relaxed));
        let mut conn = self.context.pool.get().await?;
        let event = JobStep::record(&mut conn, self.job_id, self.attempt, change).await?.ok_or(Stop::Lost)?;
        drop(conn);
        self.context.publisher.publish(event);
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
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let change = self.change(&begun, StepStatus::Completed, None, result, ended);
        self.record(change, also).await?;
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
        let ended = self.ended.fetch_add(1 + skipped, Ordering::Relaxed) + 1 + skipped;
        let change = self.change(&begun, StepStatus::Failed, Some(message.to_owned()), json!({}), ended);
        self.record(change, also).await
    }

    async fn record(&self, change: StepChange<'_>, also: impl Also) -> Result<(), Stop> {
        let mut conn = self.context.pool.get().await?;
        // not `transaction(closure)`: the compiler cannot see that a closure inside a closure is `Send`. A transaction
        // left open by an early return is noticed by the pool, which then drops the connection.
        Transactions::begin_transaction(&mut *conn).await?;
        let event = JobStep::record(&mut conn, self.job_id, self.attempt, change).await?.ok_or(Stop::Lost)?;
        also(&mut conn).await?;
        Transactions::commit_transaction(&mut *conn).await?;
        drop(conn);
        self.context.publisher.publish(event);
        Ok(())
    }

    fn change<'k>(
        &self,
        begun: &Begun<'k>,
        status: StepStatus,
        error_message: Option<String>,
        result: Value,
        ended: u32,
    ) -> StepChange<'k> {
        let progress = Progress { completed: ended.min(self.total), total: self.total };
        StepChange { key: begun.key, status, started_at: begun.started_at, error_message, result, progress }
    }
}
