//! What an operator sees of jobs, queues and workers.

use super::JobStatus;
use crate::kind::{Kind, Priority};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use uuid::Uuid;

/// A job in the operator's list.
#[derive(Debug, Clone, QueryableByName, Serialize)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct JobLine {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub kind: Kind,
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub status: JobStatus,
    #[diesel(sql_type = Text)]
    pub priority: Priority,
    /// Slug of the tenant.
    #[diesel(sql_type = Text)]
    pub organization: String,
    /// Address of who submitted it.
    #[diesel(sql_type = Text)]
    pub user: String,
    #[diesel(sql_type = Int4)]
    pub attempt: i32,
    #[diesel(sql_type = Int4)]
    pub max_attempts: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub worker: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub error_code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub run_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
}

/// Which jobs an operator wants to see; an empty list is no condition.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// With one of these statuses.
    pub statuses: Vec<JobStatus>,
    /// Of one of these kinds.
    pub kinds: Vec<Kind>,
    /// In one of these queues.
    pub queues: Vec<String>,
    /// At most so many.
    pub limit: i64,
}

/// How many jobs a queue has.
#[derive(Debug, Clone, QueryableByName)]
pub struct QueueCounts {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub queue: String,
    /// Due, and not taken yet.
    #[diesel(sql_type = BigInt)]
    pub waiting: i64,
    /// Not due yet.
    #[diesel(sql_type = BigInt)]
    pub delayed: i64,
    /// In work.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
    /// Since when the first of those that wait is due.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub waiting_since: Option<DateTime<Utc>>,
}

/// A worker that has jobs in work.
#[derive(Debug, Clone, QueryableByName)]
pub struct BusyWorker {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub worker: String,
    /// Jobs in its hands.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
    /// The queues they came from.
    #[diesel(sql_type = Array<Text>)]
    pub queues: Vec<String>,
    /// Its last sign of life.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub heartbeat_at: Option<DateTime<Utc>>,
}

const JOBS: &str = "SELECT j.id, j.kind, j.queue, j.status, j.priority, o.slug AS organization, u.email AS user, \
        j.attempt, j.max_attempts, j.worker, j.error_code, j.error_message, j.run_at, j.created_at, j.started_at, \
        j.finished_at \
    FROM jobs j JOIN organizations o ON o.id = j.organization_id JOIN users u ON u.id = j.user_id";

impl JobLine {
    /// The jobs that fit. Of one status in the order in which they matter: failed and other ended ones latest first,
    /// waiting ones as they are due; otherwise the newest first.
    pub async fn list(conn: &mut AsyncPgConnection, filter: &JobFilter) -> QueryResult<Vec<Self>> {
        let order = match filter.statuses[..] {
            [JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled] => "j.finished_at DESC, j.id DESC",
            [JobStatus::Queued] => "j.run_at, j.id",
            [JobStatus::Running] => "j.heartbeat_at, j.id",
            _ => "j.id DESC",
        };
        // as words, so that an index over one of them is found; they are ours
        let words: Vec<_> = filter.statuses.iter().map(|status| format!("'{status}'")).collect();
        let status = if words.is_empty() { "TRUE".to_owned() } else { format!("j.status IN ({})", words.join(", ")) };
        let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
        diesel::sql_query(format!(
            "{JOBS} \
             WHERE {status} AND ($1 = '{{}}' OR j.kind = ANY($1)) AND ($2 = '{{}}' OR j.queue = ANY($2)) \
             ORDER BY {order} LIMIT $3"
        ))
        .bind::<Array<Text>, _>(kinds)
        .bind::<Array<Text>, _>(&filter.queues)
        .bind::<BigInt, _>(filter.limit)
        .load(conn)
        .await
    }

    /// The job.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!("{JOBS} WHERE j.id = $1")).bind::<SqlUuid, _>(id).get_result(conn).await.optional()
    }
}

impl QueueCounts {
    /// The queues that have anything to do.
    pub async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Self>> {
        // two halves, each with an index of its own
        diesel::sql_query(
            "SELECT queue, sum(waiting)::bigint AS waiting, sum(delayed)::bigint AS delayed, \
                 sum(running)::bigint AS running, min(waiting_since) AS waiting_since \
             FROM ( \
                 SELECT queue, count(*) FILTER (WHERE run_at <= now()) AS waiting, \
                     count(*) FILTER (WHERE run_at > now()) AS delayed, 0 AS running, \
                     min(run_at) FILTER (WHERE run_at <= now()) AS waiting_since \
                 FROM jobs WHERE status = 'queued' GROUP BY queue \
                 UNION ALL \
                 SELECT queue, 0, 0, count(*), NULL FROM jobs WHERE status = 'running' GROUP BY queue \
             ) AS halves GROUP BY queue ORDER BY queue",
        )
        .load(conn)
        .await
    }
}

impl BusyWorker {
    /// The workers that hold jobs, by name.
    pub async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "SELECT worker, count(*) AS running, array_agg(DISTINCT queue ORDER BY queue) AS queues, \
                 max(heartbeat_at) AS heartbeat_at \
             FROM jobs WHERE status = 'running' AND worker IS NOT NULL GROUP BY worker ORDER BY worker",
        )
        .load(conn)
        .await
    }
}
