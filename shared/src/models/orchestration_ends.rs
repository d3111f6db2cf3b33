//! What follows from the ends of orchestrations: the phase that failed is counted, and so is the day.

use super::{Ending, Finish, Job, JobStatus, Orchestration, OrchestrationCounts};
use crate::schema::{jobs, orchestrations};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// An orchestration that has ended, with how long it took.
pub(super) struct EndedRun {
    orchestration: Orchestration,
    /// Milliseconds.
    execution_ms: i64,
}

/// Counts orchestrations that have just ended. Sums of days are locked last by everybody, in one order.
pub(super) async fn settle(conn: &mut AsyncPgConnection, ended: &[&Finish]) -> QueryResult<()> {
    let ids: Vec<Uuid> = ended.iter().map(|finish| finish.id).collect();
    // whoever is stopped has not failed; an attempt that died has left its phase behind
    diesel::sql_query(
        "UPDATE orchestrations SET failed_phases = ( \
             SELECT count(*) FROM job_steps WHERE job_id = orchestrations.id AND status = 'failed' \
                 AND name LIKE 'phase\\_%') \
         FROM jobs WHERE orchestrations.id = ANY($1) AND jobs.id = orchestrations.id AND jobs.status = 'failed'",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .execute(conn)
    .await?;
    let runs = load(conn, &ids).await?;
    let mut days: BTreeMap<(Uuid, Uuid), OrchestrationCounts> = BTreeMap::new();
    for finish in ended {
        let Some(EndedRun { orchestration, execution_ms }) = runs.get(&finish.id) else { continue };
        let counts = days.entry((orchestration.organization_id, orchestration.project_id)).or_default();
        match &finish.ending {
            Ending::Completed(_) => counts.completed += 1,
            Ending::Failed(..) => counts.failed += 1,
            Ending::Cancelled => counts.cancelled += 1,
        }
        if !matches!(finish.ending, Ending::Cancelled) {
            counts.execution_ms += execution_ms;
        }
    }
    for ((organization_id, project_id), counts) in days {
        counts.add(conn, organization_id, project_id).await?;
    }
    Ok(())
}

/// Orchestrations that have ended.
pub(super) async fn load(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, EndedRun>> {
    let rows: Vec<(Orchestration, Job)> = orchestrations::table
        .inner_join(jobs::table)
        .filter(orchestrations::id.eq_any(ids))
        .select((Orchestration::as_select(), Job::as_select()))
        .load(conn)
        .await?;
    let ended = rows.into_iter().map(|(orchestration, job)| {
        let execution_ms = Orchestration::execution_time_ms(job.started_at, job.finished_at);
        (orchestration.id, EndedRun { orchestration, execution_ms })
    });
    Ok(ended.collect())
}

impl EndedRun {
    /// What webhooks are told.
    pub(super) fn data(&self, status: JobStatus, at: DateTime<Utc>) -> Value {
        self.orchestration.told(status, self.execution_ms, at)
    }
}
