//! Orchestrations and their operations, counted by day as they happen, so that a view of a year reads few rows. Whoever
//! counts does so in the transaction of what is counted.

use chrono::NaiveDate;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Date, Nullable, Text, Uuid as SqlUuid},
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

/// Sums of an organization's orchestrations over days: of all, or of one project.
#[derive(Debug, Clone, QueryableByName)]
pub struct OrchestrationSum {
    /// The project; `None`: all, also those that are gone.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub project_id: Option<Uuid>,
    /// Its name.
    #[diesel(sql_type = Nullable<Text>)]
    pub project_name: Option<String>,
    /// Orchestrations that were accepted.
    #[diesel(sql_type = BigInt)]
    pub started: i64,
    /// Those that ended well.
    #[diesel(sql_type = BigInt)]
    pub completed: i64,
    /// Those that ended badly.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// How long those took that completed or failed, in milliseconds.
    #[diesel(sql_type = BigInt)]
    pub execution_ms: i64,
    /// Files written.
    #[diesel(sql_type = BigInt)]
    pub file_system: i64,
    /// Commits made.
    #[diesel(sql_type = BigInt)]
    pub git_operations: i64,
    /// Deploy hooks called.
    #[diesel(sql_type = BigInt)]
    pub deployment: i64,
}

impl OrchestrationSum {
    /// The sum of all first, even if there is nothing, then the `most` projects with the most orchestrations. One query.
    pub async fn list(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        since: NaiveDate,
        most: i64,
    ) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "WITH of_project AS MATERIALIZED ( \
                 SELECT project_id, sum(started)::bigint AS started, sum(completed)::bigint AS completed, \
                     sum(failed)::bigint AS failed, sum(execution_ms)::bigint AS execution_ms, \
                     sum(file_system)::bigint AS file_system, sum(git_operations)::bigint AS git_operations, \
                     sum(deployment)::bigint AS deployment \
                 FROM orchestration_days WHERE organization_id = $1 AND day >= $2 GROUP BY project_id \
             ) \
             SELECT NULL::uuid AS project_id, NULL::text AS project_name, COALESCE(sum(started), 0)::bigint AS started, \
                 COALESCE(sum(completed), 0)::bigint AS completed, COALESCE(sum(failed), 0)::bigint AS failed, \
                 COALESCE(sum(execution_ms), 0)::bigint AS execution_ms, \
                 COALESCE(sum(file_system), 0)::bigint AS file_system, \
                 COALESCE(sum(git_operations), 0)::bigint AS git_operations, \
                 COALESCE(sum(deployment), 0)::bigint AS deployment \
             FROM of_project \
             UNION ALL \
             (SELECT of_project.project_id, projects.name, started, completed, failed, execution_ms, file_system, \
                  git_operations, deployment \
              FROM of_project JOIN projects \
                  ON projects.id = of_project.project_id AND projects.organization_id = $1 \
              WHERE started > 0 ORDER BY started DESC, projects.name, projects.id LIMIT $3)",
        )
        .bind::<SqlUuid, _>(organization_id)
        .bind::<Date, _>(since)
        .bind::<BigInt, _>(most)
        .load(conn)
        .await
    }
}
