//! How an operator gets rid of jobs that failed: with all that belongs to them, and the objects they left.

use super::{JobStatus, ObjectDeletion, job_retries::Refused};
use crate::schema::{executions, jobs, orchestrations};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What became of jobs that were to be discarded.
#[derive(Debug, Default)]
pub struct Discarded {
    /// They are gone.
    pub gone: Vec<Uuid>,
    /// They stay as they are.
    pub refused: Vec<(Uuid, Refused)>,
}

impl Discarded {
    /// Deletes those of `ids` that failed, in one transaction. What their nodes left in the object store is noted for
    /// deletion. A run that another one has taken results over from stays, as it does when old jobs are pruned.
    pub async fn of(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Self> {
        conn.transaction(async |conn| {
            let found: Vec<(Uuid, JobStatus)> = jobs::table
                .filter(jobs::id.eq_any(ids))
                .order(jobs::id)
                .select((jobs::id, jobs::status))
                .for_update()
                .load(conn)
                .await?;
            let found: HashMap<Uuid, JobStatus> = found.into_iter().collect();
            let repeated = executions::table.filter(executions::retry_of.eq_any(ids));
            let mut repeats: Vec<Option<Uuid>> = repeated.select(executions::retry_of).load(conn).await?;
            let repeated = orchestrations::table.filter(orchestrations::retry_of.eq_any(ids));
            repeats.extend(repeated.select(orchestrations::retry_of).load::<Option<Uuid>>(conn).await?);
            let repeated: HashSet<Uuid> = repeats.into_iter().flatten().collect();
            let mut discarded = Self::default();
            for id in ids {
                match found.get(id) {
                    None => discarded.refused.push((*id, Refused::Unknown)),
                    Some(JobStatus::Failed) if repeated.contains(id) => {
                        discarded.refused.push((*id, Refused::TakenOver));
                    }
                    Some(JobStatus::Failed) => discarded.gone.push(*id),
                    Some(status) => discarded.refused.push((*id, Refused::Status(*status))),
                }
            }
            ObjectDeletion::insert_of_jobs(conn, &discarded.gone).await?;
            diesel::delete(jobs::table.filter(jobs::id.eq_any(&discarded.gone))).execute(conn).await?;
            Ok(discarded)
        })
        .await
    }
}
