//! Executions: runs of pipelines. An execution and its job are one thing in two rows with one id: `jobs` has status and
//! times, this table what is run and what it has used so far.

use super::{Ended, Ending, Failure, Job, JobStep, NewJob, NewStep, take_overs::take_over};
use crate::{
    kind::{Payload, PipelineRun},
    pipeline::Definition,
    queue::Ticket,
    schema::{executions, job_steps, pipelines},
};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// An execution as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName, Insertable)]
#[diesel(table_name = executions, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Execution {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub user_id: Uuid,
    pub pipeline_id: Uuid,
    pub pipeline_name: String,
    pub nodes: Value,
    pub connections: Value,
    pub inputs: Value,
    pub webhook_url: Option<String>,
    pub webhook_secret: Option<String>,
    pub retry_of: Option<Uuid>,
    pub schedule_id: Option<Uuid>,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub node_executions: i32,
    pub tokens_used: i64,
    pub cost_nanos: i64,
    pub error_node_id: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// A run to be accepted.
#[derive(Debug, Clone)]
pub struct NewExecution {
    /// The id, time-ordered, so that the caller may know it beforehand.
    pub id: Uuid,
    /// Who starts it.
    pub user_id: Uuid,
    /// The tenant it counts for.
    pub organization_id: Uuid,
    /// The tenant's share of turns, at least 1.
    pub weight: u16,
    /// The pipeline.
    pub pipeline_id: Uuid,
    /// Its name now.
    pub pipeline_name: String,
    /// Its nodes now.
    pub nodes: Value,
    /// Its connections now.
    pub connections: Value,
    /// Node id → value.
    pub inputs: Value,
    /// Told at the end.
    pub webhook_url: Option<String>,
    /// What that call is signed with.
    pub webhook_secret: Option<String>,
    /// Somebody waits for the answer.
    pub awaited: bool,
    /// The execution whose finished nodes are taken over.
    pub retry_of: Option<Uuid>,
    /// The schedule and its tick.
    pub tick: Option<(Uuid, DateTime<Utc>)>,
    /// Most it may cost, in 10^-9 US dollars.
    pub cost_limit_nanos: Option<i64>,
    /// Most tokens it may use.
    pub token_limit: Option<i64>,
}

/// An accepted run; once its transaction is committed, Redis is to be told.
#[derive(Debug)]
pub struct StartedExecution {
    /// The execution.
    pub execution: Execution,
    /// Its job.
    pub job: Job,
    /// What Redis is told.
    pub ticket: Ticket,
}

impl Execution {
    /// Accepts a run: its job, its row, a pending step for each node, its own budget if it has a limit, and the steps
    /// that were finished in the execution it repeats. Runs within the caller's transaction.
    ///
    /// Violates `executions_tick_key` if the tick has had its run.
    pub async fn start(conn: &mut AsyncPgConnection, new: NewExecution) -> QueryResult<StartedExecution> {
        let payload = Payload::PipelineRun(PipelineRun { pipeline_id: new.pipeline_id, awaited: new.awaited });
        let definition = Definition::read(&new.nodes, &new.connections).ok();
        let nodes = definition.as_ref().map(|definition| definition.nodes.as_slice()).unwrap_or_default();
        let new_job = NewJob {
            id: new.id,
            items_total: i32::try_from(nodes.len()).unwrap_or(i32::MAX),
            ..NewJob::new(new.user_id, new.organization_id, new.weight, payload)
        };
        let job = Job::insert(conn, &new_job).await?;
        let (schedule_id, scheduled_at) = new.tick.unzip();
        let execution = Self {
            id: job.id,
            organization_id: new.organization_id,
            user_id: new.user_id,
            pipeline_id: new.pipeline_id,
            pipeline_name: new.pipeline_name,
            nodes: new.nodes,
            connections: new.connections,
            inputs: new.inputs,
            webhook_url: new.webhook_url,
            webhook_secret: new.webhook_secret,
            retry_of: new.retry_of,
            schedule_id,
            scheduled_at,
            node_executions: 0,
            tokens_used: 0,
            cost_nanos: 0,
            error_node_id: None,
            created_at: job.created_at,
        };
        let execution: Self = diesel::insert_into(executions::table)
            .values(execution)
            .returning(Self::as_returning())
            .get_result(conn)
            .await?;
        if let Some(retried) = new.retry_of {
            take_over(conn, job.id, retried).await?;
        }
        let steps: Vec<NewStep<'_>> = nodes
            .iter()
            .zip(0..)
            .map(|(node, position)| NewStep { item: Uuid::nil(), name: &node.id, position })
            .collect();
        JobStep::insert_pending(conn, job.id, &steps).await?;
        if new.cost_limit_nanos.is_some() || new.token_limit.is_some() {
            super::Budget::limit_job(conn, &job, new.token_limit, new.cost_limit_nanos).await?;
        }
        diesel::update(pipelines::table.find(new.pipeline_id))
            .set(pipelines::last_executed.eq(job.created_at))
            .execute(conn)
            .await?;
        Ok(StartedExecution { execution, job, ticket: new_job.ticket() })
    }

    /// Writes down a run that may not begin: it has failed at once, for this reason.
    pub async fn refuse(conn: &mut AsyncPgConnection, new: NewExecution, failure: Failure) -> QueryResult<Ended> {
        let started = Self::start(conn, new).await?;
        started.job.end(conn, Ending::Failed(failure, None)).await
    }

    /// The execution of a job, whoever owns it.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        executions::table.find(id).select(Self::as_select()).first(conn).await
    }

    /// The execution with its job, if it belongs to this organization.
    pub async fn find(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<(Self, Job)>> {
        executions::table
            .inner_join(crate::schema::jobs::table)
            .filter(executions::id.eq(id).and(executions::organization_id.eq(organization_id)))
            .select((Self::as_select(), Job::as_select()))
            .first(conn)
            .await
            .optional()
    }

    /// Counts one more node that ran to its end, and what it used. The caller has passed its fence in the same
    /// transaction.
    pub async fn count_node(conn: &mut AsyncPgConnection, id: Uuid, tokens: i64, cost_nanos: i64) -> QueryResult<()> {
        diesel::update(executions::table.find(id))
            .set((
                executions::node_executions.eq(executions::node_executions + 1),
                executions::tokens_used.eq(executions::tokens_used + tokens),
                executions::cost_nanos.eq(executions::cost_nanos + cost_nanos),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Notes which node failed the run. The caller has passed its fence in the same transaction.
    pub async fn set_error_node(conn: &mut AsyncPgConnection, id: Uuid, node_id: &str) -> QueryResult<()> {
        diesel::update(executions::table.find(id)).set(executions::error_node_id.eq(node_id)).execute(conn).await?;
        Ok(())
    }

    /// The steps of this execution that belong to its nodes, in the order of the nodes.
    pub async fn node_steps(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Vec<JobStep>> {
        job_steps::table
            .filter(job_steps::job_id.eq(id).and(job_steps::item.eq(Uuid::nil())).and(job_steps::position.ge(0)))
            .order(job_steps::position)
            .select(JobStep::as_select())
            .load(conn)
            .await
    }
}
