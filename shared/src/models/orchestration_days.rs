//! Orchestrations and their operations, counted by day as they happen, so that a view of a year reads few rows. Whoever
//! counts does so in the transaction of what is counted.

use diesel::{
    QueryResult,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// What is added to the sums of today, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrchestrationCounts {
    /// Orchestrations that were accepted.
    pub started: i64,
    /// Those that ended well.
    pub completed: i64,
    /// Those that ended badly.
    pub failed: i64,
    /// Those that were stopped.
    pub cancelled: i64,
    /// How long those took that completed or failed, in milliseconds.
    pub execution_ms: i64,
    /// Files written.
    pub file_system: i64,
    /// Commits made.
    pub git_operations: i64,
    /// Deploy hooks called.
    pub deployment: i64,
}

impl OrchestrationCounts {
    /// Adds to the sums of a project's day, in the caller's transaction.
    pub async fn add(self, conn: &mut AsyncPgConnection, organization_id: Uuid, project_id: Uuid) -> QueryResult<()> {
        diesel::sql_query(
            "INSERT INTO orchestration_days AS d (organization_id, project_id, day, started, completed, failed, \
                 cancelled, execution_ms, file_system, git_operations, deployment) \
             VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::date, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (organization_id, project_id, day) DO UPDATE SET started = d.started + excluded.started, \
                 completed = d.completed + excluded.completed, failed = d.failed + excluded.failed, \
                 cancelled = d.cancelled + excluded.cancelled, execution_ms = d.execution_ms + excluded.execution_ms, \
                 file_system = d.file_system + excluded.file_system, \
                 git_operations = d.git_operations + excluded.git_operations, \
                 deployment = d.deployment + excluded.deployment",
        )
        .bind::<SqlUuid, _>(organization_id)
        .bind::<SqlUuid, _>(project_id)
        .bind::<BigInt, _>(self.started)
        .bind::<BigInt, _>(self.completed)
        .bind::<BigInt, _>(self.failed)
        .bind::<BigInt, _>(self.cancelled)
        .bind::<BigInt, _>(self.execution_ms)
        .bind::<BigInt, _>(self.file_system)
        .bind::<BigInt, _>(self.git_operations)
        .bind::<BigInt, _>(self.deployment)
        .execute(conn)
        .await?;
        Ok(())
    }
}
