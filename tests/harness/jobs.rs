//! Jobs in a test's world: accepting them, waiting for them, and asking what became of them.

use crate::{World, eventually};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Int2, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use redis::AsyncCommands;
use shared::{
    events::{self, Change, Event},
    kind::{Kind, Payload, Probe},
    models::{Cancelled, Job, JobEvent, JobStatus, JobStep, NewJob},
    queue::Ticket,
    schema::jobs,
};
use uuid::Uuid;

/// Rows in one statement.
const PAGE: usize = 5_000;

/// Who a job is for.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The user.
    pub user: Uuid,
    /// The organization whose share is used.
    pub organization: Uuid,
    /// Its weight.
    pub weight: u16,
}

#[derive(QueryableByName)]
struct Wrong {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Nullable<Text>)]
    example: Option<String>,
}

impl World {
    /// A user with an organization, written straight into the tables: for tests that need no API.
    pub async fn tenant(&self, weight: u16) -> Tenant {
        let (user, organization) = (Uuid::now_v7(), Uuid::now_v7());
        let mut conn = self.conn().await;
        diesel::sql_query("INSERT INTO organizations (id, name, slug, settings) VALUES ($1, 'Test', $1::text, '{}')")
            .bind::<SqlUuid, _>(organization)
            .execute(&mut conn)
            .await
            .unwrap();
        diesel::sql_query(
            "INSERT INTO users (id, email, username, full_name, password_hash, organization_id, preferences) \
             VALUES ($1, $1::text || '@example.com', left(replace($1::text, '-', ''), 30), 'Test', '', $2, '{}')",
        )
        .bind::<SqlUuid, _>(user)
        .bind::<SqlUuid, _>(organization)
        .execute(&mut conn)
        .await
        .unwrap();
        Tenant { user, organization, weight }
    }

    /// Accepts one job as the API does: its row, then a push.
    pub async fn submit_one(&self, tenant: &Tenant, probe: Probe) -> Uuid {
        self.submit(tenant, &probe, 1).await.remove(0)
    }

    /// Accepts jobs as the API does: rows, then a push.
    pub async fn submit(&self, tenant: &Tenant, probe: &Probe, count: usize) -> Vec<Uuid> {
        let ids = self.insert_probes(tenant, probe, count).await;
        self.push(tenant, &ids).await.unwrap();
        ids
    }

    /// Commits rows of jobs without telling Redis, many in a statement.
    pub async fn insert_probes(&self, tenant: &Tenant, probe: &Probe, count: usize) -> Vec<Uuid> {
        let template = NewJob::new(tenant.user, tenant.organization, tenant.weight, Payload::Probe(probe.clone()));
        let kind = template.payload.kind();
        let ids: Vec<_> = std::iter::repeat_with(Uuid::now_v7).take(count).collect();
        let mut conn = self.conn().await;
        for page in ids.chunks(PAGE) {
            diesel::sql_query(
                "INSERT INTO jobs (id, kind, queue, priority, organization_id, weight, user_id, payload, max_attempts) \
                 SELECT id, $2, $3, $4, $5, $6, $7, $8, 5 FROM UNNEST($1) AS new (id)",
            )
            .bind::<Array<SqlUuid>, _>(page)
            .bind::<Text, _>(kind)
            .bind::<Text, _>(kind.queue())
            .bind::<Text, _>(template.payload.priority())
            .bind::<SqlUuid, _>(tenant.organization)
            .bind::<Int2, _>(tenant.weight.cast_signed())
            .bind::<SqlUuid, _>(tenant.user)
            .bind::<Jsonb, _>(serde_json::to_value(&template.payload).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
        }
        ids
    }

    /// Tells Redis of probes.
    pub async fn push(&self, tenant: &Tenant, ids: &[Uuid]) -> Result<usize, shared::queue::QueueError> {
        let ticket = |id: &Uuid| Ticket {
            id: *id,
            tenant: tenant.organization,
            weight: tenant.weight,
            priority: shared::kind::Priority::Default,
            run_at: None,
        };
        let tickets: Vec<_> = ids.iter().map(ticket).collect();
        self.queue("probes").push(&tickets).await
    }

    /// Accepts a job without telling Redis.
    pub async fn insert(&self, job: &NewJob) {
        Job::insert(&mut *self.conn().await, job).await.unwrap();
    }

    /// Asks for the end of a job as the API does: in its row, then through Redis.
    pub async fn cancel(&self, tenant: &Tenant, id: Uuid) -> Cancelled {
        let cancelled = Job::cancel(&mut *self.conn().await, id, tenant.user).await.unwrap().unwrap();
        if matches!(cancelled, Cancelled::Requested) {
            let channel = events::cancel_channel(&self.prefix);
            let _: i64 = self.redis.clone().publish(channel, id.to_string()).await.unwrap();
        }
        cancelled
    }

    /// A job as it is now.
    pub async fn job(&self, id: Uuid) -> Job {
        Job::get(&mut *self.conn().await, id).await.unwrap()
    }

    /// The steps of a job, in order.
    pub async fn steps(&self, id: Uuid) -> Vec<JobStep> {
        JobStep::list(&mut *self.conn().await, id).await.unwrap()
    }

    /// The stored events of a job, in order.
    pub async fn events(&self, id: Uuid) -> Vec<Event> {
        JobEvent::list_after(&mut *self.conn().await, id, 0, 10_000).await.unwrap()
    }

    /// How many of these jobs have this status.
    pub async fn count(&self, ids: &[Uuid], status: JobStatus) -> usize {
        let count: i64 = jobs::table
            .filter(jobs::id.eq_any(ids))
            .filter(jobs::status.eq(status))
            .count()
            .get_result(&mut self.conn().await)
            .await
            .unwrap();
        usize::try_from(count).unwrap()
    }

    /// Waits until a job has this status, and returns it.
    pub async fn wait_for_status(&self, id: Uuid, status: JobStatus) -> Job {
        eventually(&format!("job {id} to be {status}"), async || {
            let job = self.job(id).await;
            (job.status == status).then_some(job)
        })
        .await
    }

    /// Waits until at least this many of the jobs have this status.
    pub async fn wait_for_count(&self, ids: &[Uuid], status: JobStatus, least: usize) {
        let what = format!("{least} of {} jobs to be {status}", ids.len());
        eventually(&what, async || (self.count(ids, status).await >= least).then_some(())).await;
    }

    /// Waits until no job waits or runs, but for mails.
    pub async fn drain(&self) {
        eventually("all jobs to end", async || (open_jobs(&mut *self.conn().await).await == 0).then_some(())).await;
    }

    /// Each of these jobs ended like this, in its first attempt unless more are allowed, and told of it once: its events
    /// are numbered without gaps and the last one, and only that one, is its end.
    pub async fn assert_each_ended_once(&self, ids: &[Uuid], status: JobStatus, attempts: i32) {
        let wrong: Vec<Wrong> = diesel::sql_query(
            "SELECT count(*), max(left(concat_ws(' ', status, 'attempt', attempt, errors), 400)) AS example \
             FROM jobs WHERE id = ANY($1) AND NOT ( \
                 status = $2 AND attempt <= $3 \
                 AND (SELECT count(*) = last_seq AND max(seq) = last_seq \
                      AND count(*) FILTER (WHERE body ->> 'type' = 'job_finished') = 1 \
                      AND bool_or(seq = last_seq AND body ->> 'type' = 'job_finished' AND body ->> 'status' = $2) \
                      FROM job_events WHERE job_id = jobs.id)) \
             UNION ALL SELECT count(*), NULL FROM jobs WHERE id = ANY($1)",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(status)
        .bind::<diesel::sql_types::Int4, _>(attempts)
        .load(&mut self.conn().await)
        .await
        .unwrap();
        assert_eq!(wrong[1].count, i64::try_from(ids.len()).unwrap(), "every job is there");
        let Wrong { count, example } = &wrong[0];
        assert_eq!(*count, 0, "jobs that did not end once, as {status}, within {attempts} attempts: {example:?}");
    }
}

/// The events of one job are numbered from 1 without gaps, and the last one, and only that one, is its end.
pub fn assert_whole(events: &[Event], status: JobStatus) {
    let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=i32::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let ends: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body.change {
            Change::JobFinished { status, .. } => Some((event.seq, *status)),
            Change::JobStarted | Change::Log { .. } | Change::StepUpdate { .. } => None,
        })
        .collect();
    assert_eq!(ends, [(i32::try_from(events.len()).unwrap(), status)]);
}

/// Mails are not counted: many a test ends jobs that somebody is written about, and has nobody to send it.
async fn open_jobs(conn: &mut diesel_async::AsyncPgConnection) -> i64 {
    let open = jobs::table.filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]));
    let open = open.filter(jobs::kind.ne(Kind::Mail));
    open.count().get_result(conn).await.unwrap()
}

/// A test that leaves jobs behind has not waited for what it started.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let url = self.database();
        let count = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { open_jobs(&mut shared::db::connect(&url).await.unwrap()).await })
        });
        let left = count.join().unwrap();
        assert_eq!(left, 0, "the test left {left} jobs waiting or running");
    }
}
