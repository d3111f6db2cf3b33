//! What is read about executions: rows of lists, the latest of a pipeline, how long runs take and what is in front.

use super::{Execution, JobStatus, PipelineStatus};
use crate::{
    kind::Kind,
    schema::{budgets, executions, jobs, pipelines},
};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Double, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Completed runs that an estimate looks at.
const SAMPLE: i64 = 50;

/// An execution with what its job knows, without what was run: a row of a list.
#[derive(Debug, Clone, QueryableByName)]
#[expect(missing_docs, reason = "the columns are explained in the migrations that make them")]
pub struct ExecutionRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub pipeline_id: Uuid,
    #[diesel(sql_type = Text)]
    pub pipeline_name: String,
    #[diesel(sql_type = Text)]
    pub status: JobStatus,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Int4)]
    pub node_executions: i32,
    #[diesel(sql_type = BigInt)]
    pub tokens_used: i64,
    #[diesel(sql_type = BigInt)]
    pub cost_nanos: i64,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// One of the latest executions of a pipeline.
#[derive(Debug, Clone, Queryable)]
#[expect(missing_docs, reason = "the columns are explained in the migrations that make them")]
pub struct RecentExecution {
    pub id: Uuid,
    pub status: JobStatus,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Median {
    #[diesel(sql_type = Nullable<Double>)]
    ms: Option<f64>,
}

impl Execution {
    /// The latest executions of a pipeline, newest first.
    pub async fn list_recent(
        conn: &mut AsyncPgConnection,
        pipeline_id: Uuid,
        limit: i64,
    ) -> QueryResult<Vec<RecentExecution>> {
        executions::table
            .inner_join(jobs::table)
            .filter(executions::pipeline_id.eq(pipeline_id))
            .order((executions::created_at.desc(), executions::id.desc()))
            .limit(limit)
            .select((jobs::id, jobs::status, jobs::started_at, jobs::finished_at))
            .load(conn)
            .await
    }

    /// The middle duration of the latest completed runs in milliseconds: of this pipeline, or, if it has none, of its
    /// organization. `None`: nothing was completed yet.
    pub async fn median_duration(
        conn: &mut AsyncPgConnection,
        pipeline_id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<f64>> {
        for (column, id) in [("pipeline_id", pipeline_id), ("organization_id", organization_id)] {
            let median: Median = diesel::sql_query(format!(
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM ( \
                     SELECT (extract(epoch FROM j.finished_at - j.started_at) * 1000)::float8 AS ms \
                     FROM executions e JOIN jobs j ON j.id = e.id \
                     WHERE e.{column} = $1 AND j.status = 'completed' \
                     ORDER BY e.created_at DESC, e.id DESC LIMIT $2) recent",
            ))
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(SAMPLE)
            .get_result(conn)
            .await?;
            if median.ms.is_some() {
                return Ok(median.ms);
            }
        }
        Ok(None)
    }

    /// How many runs that are due wait in front of this one by their time, at most `most`: what is told while Redis, which
    /// knows the real order, is away.
    pub async fn count_ahead(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        run_at: DateTime<Utc>,
        most: i64,
    ) -> QueryResult<i64> {
        let ahead = jobs::table
            .filter(jobs::status.eq(JobStatus::Queued).and(jobs::queue.eq(Kind::PipelineRun.queue())))
            .filter(jobs::run_at.lt(run_at).or(jobs::run_at.eq(run_at).and(jobs::id.lt(id))))
            .limit(most)
            .select(jobs::id);
        Ok(i64::try_from(ahead.load::<Uuid>(conn).await?.len()).unwrap_or(most))
    }

    /// The limits that a run was given: tokens, and cost in 10^-9 US dollars.
    pub async fn find_limits(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<(Option<i64>, Option<i64>)> {
        let limits = budgets::table.find((id, NaiveDate::default()));
        let limits = limits.select((budgets::token_limit, budgets::cost_limit_nanos)).first(conn).await.optional()?;
        Ok(limits.unwrap_or_default())
    }

    /// Where the pipeline of a run stands now. `None`: it is gone.
    pub async fn find_pipeline_status(
        conn: &mut AsyncPgConnection,
        pipeline_id: Uuid,
    ) -> QueryResult<Option<PipelineStatus>> {
        pipelines::table.find(pipeline_id).select(pipelines::status).first(conn).await.optional()
    }
}
