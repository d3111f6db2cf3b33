//! Which images an analysis job is about, and its steps summed up over them.

use super::StepStatus;
use crate::{
    schema::{job_images, jobs},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Jsonb, Nullable, SmallInt, Text, Timestamptz, Untyped, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// How an image fared in a job.
    ImageOutcome {
        /// Not decided yet.
        Pending = "pending",
        /// Analysed.
        Completed = "completed",
        /// Not analysed.
        Failed = "failed",
    }
}

/// One image of a job.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = job_images, check_for_backend(diesel::pg::Pg))]
pub struct JobImage {
    /// The job.
    pub job_id: Uuid,
    /// The image; it may have been deleted since.
    pub image_id: Uuid,
    /// Its place in the order in which the images were given, from 0.
    pub position: i32,
    /// How it fared.
    pub status: ImageOutcome,
    /// Why it failed.
    pub error_message: Option<String>,
}

impl JobImage {
    /// Names the images of a job, in this order.
    pub async fn insert(conn: &mut AsyncPgConnection, job_id: Uuid, image_ids: &[Uuid]) -> QueryResult<()> {
        let rows: Vec<Self> = image_ids
            .iter()
            .zip(0..)
            .map(|(&image_id, position)| Self {
                job_id,
                image_id,
                position,
                status: ImageOutcome::Pending,
                error_message: None,
            })
            .collect();
        diesel::insert_into(job_images::table).values(rows).execute(conn).await?;
        Ok(())
    }

    /// The images of a job, in the order in which they were given.
    pub async fn list(conn: &mut AsyncPgConnection, job_id: Uuid) -> QueryResult<Vec<Self>> {
        job_images::table
            .filter(job_images::job_id.eq(job_id))
            .order(job_images::position)
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// The job that waits for, or works on, this image.
    pub async fn find_open_job(conn: &mut AsyncPgConnection, image_id: Uuid) -> QueryResult<Option<Uuid>> {
        job_images::table
            .inner_join(jobs::table)
            .filter(job_images::image_id.eq(image_id))
            .filter(jobs::status.eq_any(["queued", "running"]))
            .select(jobs::id)
            .first(conn)
            .await
            .optional()
    }
}

/// One step of a job, summed up over all its images.
#[derive(Debug, Clone, QueryableByName)]
pub struct StepSum {
    /// The job.
    #[diesel(sql_type = SqlUuid)]
    pub job_id: Uuid,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Its order, from 0.
    #[diesel(sql_type = SmallInt)]
    pub position: i16,
    /// Images for which it has not begun.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// Images for which it runs.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
    /// Images for which it is done.
    #[diesel(sql_type = BigInt)]
    pub completed: i64,
    /// Images for which it failed.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// When the first began.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    /// When the last ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub completed_at: Option<DateTime<Utc>>,
    /// Time spent over all images, in milliseconds.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub duration_ms: Option<i64>,
    /// Why it failed for the first image for which it failed.
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    /// Image → result, or `{"error_message"}`, for the images for which it ended.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub results: Option<Value>,
}

/// The query for sums. Unlike one made with `sql_query` it is prepared once for each connection: it is asked at every look at
/// a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct SumsOf<'a> {
    pub(super) job_ids: &'a [Uuid],
}

impl QueryId for SumsOf<'_> {
    type QueryId = SumsOf<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for SumsOf<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT job_id, name, min(position) AS position, \
                 count(*) FILTER (WHERE status = 'pending') AS pending, \
                 count(*) FILTER (WHERE status = 'running') AS running, \
                 count(*) FILTER (WHERE status = 'completed') AS completed, \
                 count(*) FILTER (WHERE status = 'failed') AS failed, \
                 min(started_at) AS started_at, max(completed_at) AS completed_at, \
                 sum(duration_ms)::bigint AS duration_ms, \
                 (array_agg(error_message ORDER BY item) FILTER (WHERE status = 'failed'))[1] AS error_message, \
                 jsonb_object_agg(item, CASE status WHEN 'failed' \
                     THEN jsonb_build_object('error_message', error_message) ELSE result END) \
                     FILTER (WHERE status IN ('completed', 'failed')) AS results \
             FROM job_steps WHERE job_id = ANY(",
        );
        out.push_bind_param::<Array<SqlUuid>, [Uuid]>(self.job_ids)?;
        out.push_sql(") GROUP BY job_id, name ORDER BY job_id, position");
        Ok(())
    }
}

impl Query for SumsOf<'_> {
    type SqlType = Untyped;
}

impl StepSum {
    /// The steps of several jobs, in one query, by job and order.
    pub async fn list_of_jobs(conn: &mut AsyncPgConnection, job_ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        SumsOf { job_ids }.load(conn).await
    }

    /// The status of all images together.
    ///
    /// `running` from the first beginning until the last end. Then `failed` if it failed for any image, else
    /// `completed`. Images that a job which has ended never reached count for nothing, so a step that no image
    /// reached stays `pending`.
    pub const fn status(&self, job_has_ended: bool) -> StepStatus {
        let begun = self.completed + self.failed > 0;
        if self.running > 0 || (begun && self.pending > 0 && !job_has_ended) {
            StepStatus::Running
        } else if self.failed > 0 {
            StepStatus::Failed
        } else if begun {
            StepStatus::Completed
        } else {
            StepStatus::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(pending: i64, running: i64, completed: i64, failed: i64) -> StepSum {
        StepSum {
            job_id: Uuid::nil(),
            name: "classify".to_owned(),
            position: 1,
            pending,
            running,
            completed,
            failed,
            started_at: None,
            completed_at: None,
            duration_ms: None,
            error_message: None,
            results: None,
        }
    }

    #[test]
    fn a_step_runs_from_the_first_beginning_to_the_last_end() {
        assert_eq!(sum(3, 0, 0, 0).status(false), StepStatus::Pending);
        assert_eq!(sum(2, 1, 0, 0).status(false), StepStatus::Running);
        assert_eq!(sum(2, 0, 1, 0).status(false), StepStatus::Running);
        assert_eq!(sum(2, 0, 0, 1).status(false), StepStatus::Running);
        assert_eq!(sum(0, 0, 3, 0).status(false), StepStatus::Completed);
        assert_eq!(sum(0, 0, 2, 1).status(false), StepStatus::Failed);
    }

    #[test]
    fn images_that_an_ended_job_never_reached_count_for_nothing() {
        assert_eq!(sum(1, 0, 2, 0).status(true), StepStatus::Completed);
        assert_eq!(sum(1, 0, 1, 1).status(true), StepStatus::Failed);
        assert_eq!(sum(3, 0, 0, 0).status(true), StepStatus::Pending);
    }
}
