//! Recorded parts of a job. A finished step is never run again: whoever takes the job over reads these rows first.

use super::{job_events::body_json, storable};
use crate::{
    events::{Change, Event, EventBody, Progress},
    schema::job_steps,
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Int4, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where a step stands.
    StepStatus {
        /// Not begun.
        Pending = "pending",
        /// Begun by the current attempt, or by one that died.
        Running = "running",
        /// Done; its result stands.
        Completed = "completed",
        /// It went wrong for good.
        Failed = "failed",
        /// It belongs to a branch that was not taken.
        Skipped = "skipped",
    }
}

impl StepStatus {
    /// Nothing will change any more.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed | Self::Failed | Self::Skipped => true,
        }
    }
}

/// A step as stored.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = job_steps, check_for_backend(diesel::pg::Pg))]
pub struct JobStep {
    /// The job it is part of.
    pub job_id: Uuid,
    /// The unit (an image) it belongs to; nil where there is none.
    pub item: Uuid,
    /// Name, unique within the job and item.
    pub name: String,
    /// Order within the item, from 0; below 0 for a part of another step, which no progress counts.
    pub position: i16,
    /// Where it stands.
    pub status: StepStatus,
    /// The attempt that wrote last.
    pub attempt: i32,
    /// When the current or last run began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// How long the run that ended took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// What it found; `{}` until then.
    pub result: Value,
}

/// Which step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepKey<'a> {
    /// The unit it belongs to; nil where there is none.
    pub item: Uuid,
    /// Its name.
    pub name: &'a str,
    /// Its order within the item.
    pub position: i16,
}

/// A step to be announced as pending when its job is inserted.
pub type NewStep<'a> = StepKey<'a>;

/// A change of a step by the attempt that runs it.
#[derive(Debug, Clone)]
pub struct StepChange<'a> {
    /// Which step.
    pub key: StepKey<'a>,
    /// Its new status.
    pub status: StepStatus,
    /// When its run began.
    pub started_at: DateTime<Utc>,
    /// Why it failed, if it did.
    pub error_message: Option<String>,
    /// What it found; `{}` until then.
    pub result: Value,
    /// What listeners are told in place of the result.
    pub told: Option<Value>,
    /// How far the job is after this change.
    pub progress: Progress,
}

#[derive(QueryableByName)]
struct Seq {
    #[diesel(sql_type = Int4)]
    seq: i32,
}

impl JobStep {
    /// Announces steps as pending, one statement for any number.
    pub async fn insert_pending(conn: &mut AsyncPgConnection, job_id: Uuid, steps: &[NewStep<'_>]) -> QueryResult<()> {
        diesel::sql_query(
            "INSERT INTO job_steps (job_id, item, name, position) \
             SELECT $1, item, name, position FROM UNNEST($2, $3, $4) AS step (item, name, position) \
             ON CONFLICT DO NOTHING",
        )
        .bind::<SqlUuid, _>(job_id)
        .bind::<diesel::sql_types::Array<SqlUuid>, _>(steps.iter().map(|s| s.item).collect::<Vec<_>>())
        .bind::<diesel::sql_types::Array<Text>, _>(steps.iter().map(|s| s.name).collect::<Vec<_>>())
        .bind::<diesel::sql_types::Array<SmallInt>, _>(steps.iter().map(|s| s.position).collect::<Vec<_>>())
        .execute(conn)
        .await?;
        Ok(())
    }

    /// The steps of one job, by item and order.
    pub async fn list(conn: &mut AsyncPgConnection, job_id: Uuid) -> QueryResult<Vec<Self>> {
        Self::list_of_jobs(conn, &[job_id]).await
    }

    /// The steps of several jobs, by job, item and order.
    pub async fn list_of_jobs(conn: &mut AsyncPgConnection, job_ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        job_steps::table
            .filter(job_steps::job_id.eq_any(job_ids))
            .order((job_steps::job_id, job_steps::item, job_steps::position))
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// The steps of one item of a job, in their order.
    pub async fn list_of_item(conn: &mut AsyncPgConnection, job_id: Uuid, item: Uuid) -> QueryResult<Vec<Self>> {
        job_steps::table
            .filter(job_steps::job_id.eq(job_id).and(job_steps::item.eq(item)))
            .order(job_steps::position)
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// Writes a step and its event in one statement, if `attempt` still holds the job.
    ///
    /// `None`: another attempt holds it, or it ended. Nothing was written then, and the caller must stop.
    pub async fn record(
        conn: &mut AsyncPgConnection,
        job_id: Uuid,
        attempt: i32,
        change: &StepChange<'_>,
    ) -> QueryResult<Option<Event>> {
        let at = Utc::now();
        let ended = change.status.is_final();
        let duration_ms = ended.then(|| (at - change.started_at).num_milliseconds());
        let data = match &change.error_message {
            Some(message) => serde_json::json!({ "error_message": message }),
            None => change.told.clone().unwrap_or_else(|| change.result.clone()),
        };
        let body = EventBody {
            change: Change::StepUpdate {
                item: (!change.key.item.is_nil()).then_some(change.key.item),
                step: change.key.name.to_owned(),
                status: change.status,
                data,
            },
            progress: change.progress,
            at,
        };
        let seq: Option<Seq> = diesel::sql_query(
            "WITH fence AS ( \
                 UPDATE jobs SET last_seq = last_seq + 1, heartbeat_at = now(), updated_at = now() \
                 WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING last_seq \
             ), step AS ( \
                 INSERT INTO job_steps (job_id, item, name, position, status, attempt, started_at, completed_at, \
                                        duration_ms, error_message, result) \
                 SELECT $1, $3, $4, $5, $6, $2, $7, $8, $9, $10, $11 FROM fence \
                 ON CONFLICT (job_id, item, name) DO UPDATE SET \
                     status = EXCLUDED.status, attempt = EXCLUDED.attempt, started_at = EXCLUDED.started_at, \
                     completed_at = EXCLUDED.completed_at, duration_ms = EXCLUDED.duration_ms, \
                     error_message = EXCLUDED.error_message, result = EXCLUDED.result \
             ) \
             INSERT INTO job_events (job_id, seq, body, created_at) SELECT $1, last_seq, $12, $13 FROM fence \
             RETURNING seq",
        )
        .bind::<SqlUuid, _>(job_id)
        .bind::<Int4, _>(attempt)
        .bind::<SqlUuid, _>(change.key.item)
        .bind::<Text, _>(change.key.name)
        .bind::<SmallInt, _>(change.key.position)
        .bind::<Text, _>(change.status)
        .bind::<Timestamptz, _>(change.started_at)
        .bind::<Nullable<Timestamptz>, _>(ended.then_some(at))
        .bind::<Nullable<BigInt>, _>(duration_ms)
        .bind::<Nullable<Text>, _>(change.error_message.as_deref().map(storable::text))
        .bind::<Jsonb, _>(storable::json(&change.result).into_owned())
        .bind::<Jsonb, _>(body_json(&body)?)
        .bind::<Timestamptz, _>(at)
        .get_result(conn)
        .await
        .optional()?;
        Ok(seq.map(|Seq { seq }| Event { job_id, seq, body }))
    }

    /// Whether a write of this attempt is there already: for a writer who has not heard what became of it.
    pub async fn is_recorded(
        conn: &mut AsyncPgConnection,
        job_id: Uuid,
        attempt: i32,
        change: &StepChange<'_>,
    ) -> QueryResult<bool> {
        let written = job_steps::table
            .find((job_id, change.key.item, change.key.name))
            .filter(job_steps::attempt.eq(attempt))
            .filter(job_steps::status.eq(change.status))
            .filter(job_steps::started_at.eq(change.started_at));
        diesel::select(diesel::dsl::exists(written)).get_result(conn).await
    }
}
