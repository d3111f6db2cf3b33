//! Orchestrations: runs of a project's phases. An orchestration and its job are one thing in two rows with one id: `jobs`
//! has status and times, this table what is run and what it has used so far.
//!
//! Here is how they are accepted and counted; `orchestration_ends` is what follows from their ends, `orchestration_reads`
//! what lists and estimates read.

use super::{
    Job, JobStatus, JobStep, NewJob, NewStep, Occurrence, OrchestrationCounts, StepStatus, Template,
    take_overs::take_over,
};
use crate::{
    kind::{Orchestration as Told, Payload},
    orchestration::{Part, plan},
    queue::Hint,
    schema::{job_steps, jobs, orchestrations},
    webhook_event::WebhookEvent,
};
use chrono::{DateTime, SecondsFormat, Utc};
use diesel::{prelude::*, sql_types::Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

/// An orchestration as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName, Insertable)]
#[diesel(table_name = orchestrations, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Orchestration {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub user_id: Uuid,
    pub project_id: Uuid,
    pub template_id: Option<Uuid>,
    pub topic: String,
    pub integration_enabled: bool,
    pub phases: Vec<String>,
    pub integrations: Vec<String>,
    pub model: String,
    pub max_tokens: i32,
    pub temperature: f64,
    pub retry_of: Option<Uuid>,
    pub completed_phases: i32,
    pub failed_phases: i32,
    pub tokens_used: i64,
    pub cost_nanos: i64,
    pub created_at: DateTime<Utc>,
}

/// An orchestration to be accepted.
#[derive(Debug, Clone)]
pub struct NewOrchestration {
    /// The id, time-ordered, so that the caller may know it beforehand.
    pub id: Uuid,
    /// Who starts it.
    pub user_id: Uuid,
    /// The tenant it counts for.
    pub organization_id: Uuid,
    /// The tenant's share of turns, at least 1.
    pub weight: u16,
    /// The project.
    pub project_id: Uuid,
    /// The template that it is made from.
    pub template_id: Option<Uuid>,
    /// What it is about.
    pub topic: String,
    /// Whether it writes files, commits and deploys.
    pub integration_enabled: bool,
    /// Names of the phases, in title case, in order.
    pub phases: Vec<String>,
    /// Words of the template.
    pub integrations: Vec<String>,
    /// Id of a model of the catalogue.
    pub model: String,
    /// Of each phase's answer.
    pub max_tokens: i32,
    /// 0–1.
    pub temperature: f64,
    /// The orchestration whose finished steps are taken over.
    pub retry_of: Option<Uuid>,
}

/// An accepted orchestration; once its transaction is committed, Redis is to be told.
#[derive(Debug)]
pub struct StartedOrchestration {
    /// The orchestration.
    pub orchestration: Orchestration,
    /// The jobs that Redis is told of: its own, and the deliveries that tell of it.
    pub hints: Vec<Hint>,
    /// Its steps, with what was taken over.
    pub steps: Vec<JobStep>,
}

/// The status of an orchestration in the word that the outside knows.
pub const fn orchestration_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "started",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}

impl Orchestration {
    /// Accepts an orchestration: its job, its row, a pending step for each phase and operation, the steps that were finished
    /// in the one it repeats, and what follows from its beginning. Runs within the caller's transaction.
    pub async fn start(conn: &mut AsyncPgConnection, new: NewOrchestration) -> QueryResult<StartedOrchestration> {
        let payload = Payload::Orchestration(Told { project_id: new.project_id });
        let new_job = NewJob {
            id: new.id,
            items_total: i32::try_from(new.phases.len()).unwrap_or(i32::MAX),
            ..NewJob::new(new.user_id, new.organization_id, new.weight, payload)
        };
        let job = Job::insert(conn, &new_job).await?;
        let mut orchestration = Self {
            id: job.id,
            organization_id: new.organization_id,
            user_id: new.user_id,
            project_id: new.project_id,
            template_id: new.template_id,
            topic: new.topic,
            integration_enabled: new.integration_enabled,
            phases: new.phases,
            integrations: new.integrations,
            model: new.model,
            max_tokens: new.max_tokens,
            temperature: new.temperature,
            retry_of: new.retry_of,
            completed_phases: 0,
            failed_phases: 0,
            tokens_used: 0,
            cost_nanos: 0,
            created_at: job.created_at,
        };
        diesel::insert_into(orchestrations::table).values(&orchestration).execute(conn).await?;
        match new.retry_of {
            Some(retried) => orchestration.take_over(conn, retried).await?,
            None => {
                if let Some(template) = new.template_id {
                    Template::count_use(conn, template).await?;
                }
            }
        }
        let parts = plan(&orchestration);
        let steps: Vec<NewStep<'_>> = parts
            .iter()
            .zip(0..)
            .map(|(part, position)| NewStep { item: Uuid::nil(), name: &part.step, position })
            .collect();
        JobStep::insert_pending(conn, job.id, &steps).await?;
        let steps = JobStep::list(conn, job.id).await?;
        let mut hints = vec![new_job.hint()];
        hints.extend(orchestration.announce_start(conn).await?);
        let counts = OrchestrationCounts { started: 1, ..OrchestrationCounts::default() };
        counts.add(conn, orchestration.organization_id, orchestration.project_id).await?;
        Ok(StartedOrchestration { orchestration, hints, steps })
    }

    /// What an earlier orchestration finished is neither done nor paid for again; an operation that failed is tried again.
    async fn take_over(&mut self, conn: &mut AsyncPgConnection, retried: Uuid) -> QueryResult<()> {
        take_over(conn, self.id, retried).await?;
        let failed: Vec<String> =
            plan(self).into_iter().filter(|part| part.operation().is_some()).map(|part| part.step).collect();
        diesel::sql_query("DELETE FROM job_steps WHERE job_id = $1 AND name = ANY($2) AND result ? 'error'")
            .bind::<SqlUuid, _>(self.id)
            .bind::<diesel::sql_types::Array<diesel::sql_types::Text>, _>(failed)
            .execute(conn)
            .await?;
        let done: Vec<String> = job_steps::table
            .filter(job_steps::job_id.eq(self.id).and(job_steps::status.eq(StepStatus::Completed)))
            .select(job_steps::name)
            .load(conn)
            .await?;
        let phases = plan(self).into_iter().filter(|part| matches!(part.part, Part::Phase(_)));
        let done = phases.filter(|part| done.contains(&part.step)).count();
        self.completed_phases = i32::try_from(done).unwrap_or(i32::MAX);
        diesel::update(orchestrations::table.find(self.id))
            .set(orchestrations::completed_phases.eq(self.completed_phases))
            .execute(conn)
            .await?;
        Ok(())
    }

    async fn announce_start(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<Hint>> {
        let occurrence = Occurrence {
            event: WebhookEvent::OrchestrationStarted,
            user_id: self.user_id,
            organization_id: self.organization_id,
            data: self.told(JobStatus::Queued, 0, self.created_at),
        };
        Occurrence::announce(conn, &[occurrence]).await
    }

    /// What webhooks are told of it.
    pub(super) fn told(&self, status: JobStatus, execution_time_ms: i64, at: DateTime<Utc>) -> Value {
        json!({
            "run_id": self.id,
            "project_id": self.project_id,
            "topic": self.topic,
            "status": orchestration_word(status),
            "total_phases": self.phases.len(),
            "completed_phases": self.completed_phases,
            "success_rate": self.success_rate(),
            "execution_time_ms": execution_time_ms,
            "user_id": self.user_id,
            "timestamp": at.to_rfc3339_opts(SecondsFormat::Micros, true),
        })
    }

    /// Completed phases of those attempted, in per cent; 0 if there was none.
    pub fn success_rate(&self) -> f64 {
        match self.completed_phases + self.failed_phases {
            0 => 0.0,
            attempted => 100.0 * f64::from(self.completed_phases) / f64::from(attempted),
        }
    }

    /// The orchestration of a job, whoever owns it.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        orchestrations::table.find(id).select(Self::as_select()).first(conn).await
    }

    /// The orchestration with its job, if it belongs to this organization.
    pub async fn find(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<(Self, Job)>> {
        orchestrations::table
            .inner_join(jobs::table)
            .filter(orchestrations::id.eq(id).and(orchestrations::organization_id.eq(organization_id)))
            .select((Self::as_select(), Job::as_select()))
            .first(conn)
            .await
            .optional()
    }

    /// Counts one more phase that was completed, and what it used. The caller has passed its fence in the same transaction.
    pub async fn count_phase(conn: &mut AsyncPgConnection, id: Uuid, tokens: i64, cost_nanos: i64) -> QueryResult<()> {
        diesel::update(orchestrations::table.find(id))
            .set((
                orchestrations::completed_phases.eq(orchestrations::completed_phases + 1),
                orchestrations::tokens_used.eq(orchestrations::tokens_used + tokens),
                orchestrations::cost_nanos.eq(orchestrations::cost_nanos + cost_nanos),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }
}
