//! The chores of the scheduler, each seen from outside, and who does them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use diesel::{
    QueryResult,
    sql_types::{Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use harness::{Process, Tenant, World, eventually};
use shared::{
    config::{ObjectStore, Reader},
    kind::{Payload, Probe},
    models::{Job, JobStatus, NewJob},
    storage::Storage,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How soon another scheduler has to lead.
const TAKEOVER: Duration = Duration::from_secs(10);

const PROBE: Payload = Payload::Probe(Probe { steps: 0, hold_ms: 0 });

fn new_jobs(tenant: &Tenant, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| NewJob::new(tenant.user, tenant.organization, tenant.weight, PROBE)).collect()
}

/// Accepts jobs without telling Redis.
async fn insert(world: &World, jobs: &[NewJob]) {
    let mut conn = world.conn().await;
    let inserted = conn.transaction(async |conn| {
        for job in jobs {
            Job::insert(conn, job).await?;
        }
        QueryResult::Ok(())
    });
    inserted.await.unwrap();
}

async fn wait_for_ready(world: &World, jobs: u64) {
    eventually(&format!("{jobs} jobs to be ready"), async || {
        let depth = world.queue("probes").depth().await.ok()?;
        (depth.ready == jobs).then_some(())
    })
    .await;
}

/// Jobs that no worker of the test was to run.
async fn discard_jobs(world: &World) {
    world.run_sql("DELETE FROM jobs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_whose_push_was_lost_reach_redis() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_REQUEUE_EVERY", "1")]).await;
    insert(&world, &new_jobs(&tenant, 20)).await;
    wait_for_ready(&world, 20).await;
    // by now the canary sings, so this one is found by a walk
    insert(&world, &new_jobs(&tenant, 1)).await;
    wait_for_ready(&world, 21).await;
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_due_soon_wait_in_redis_until_then_and_later_ones_in_postgres() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let mut jobs = new_jobs(&tenant, 2);
    jobs[0].run_at = Utc::now() + TimeDelta::seconds(50);
    jobs[1].run_at = Utc::now() + TimeDelta::hours(1);
    insert(&world, &jobs).await;
    let _scheduler = world.scheduler().await;
    eventually("the first to be delayed", async || {
        let depth = world.queue("probes").depth().await.ok()?;
        (depth.delayed == 1 && depth.ready == 0).then_some(())
    })
    .await;
    assert_eq!(world.queue("probes").missing(&[jobs[0].id, jobs[1].id]).await.unwrap(), [jobs[1].id]);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_told_of_every_waiting_job_again() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler().await;
    insert(&world, &new_jobs(&tenant, 2_500)).await;
    wait_for_ready(&world, 2_500).await;
    redis::cmd("FLUSHALL").exec_async(&mut world.redis.clone()).await.unwrap();
    wait_for_ready(&world, 2_500).await;
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_silent_worker_waits_again_or_fails_when_its_attempts_are_used_up() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let mut jobs = new_jobs(&tenant, 3);
    jobs[1].max_attempts = 1;
    insert(&world, &jobs).await;
    let [again, over, alive] = [jobs[0].id, jobs[1].id, jobs[2].id];
    world.run_sql(&format!(
            "UPDATE jobs SET status = 'running', attempt = 1, worker = 'lost', heartbeat_at = now() - interval '1 minute'; \
             UPDATE jobs SET heartbeat_at = now() + interval '1 hour' WHERE id = '{alive}'"
        ),
    )
    .await;
    let _scheduler = world.scheduler().await;
    let rescued = world.wait_for_status(again, JobStatus::Queued).await;
    assert_eq!((rescued.attempt, rescued.crashes, rescued.worker), (1, 1, None));
    wait_for_ready(&world, 1).await;
    let failed = world.wait_for_status(over, JobStatus::Failed).await;
    assert_eq!(failed.error_code.as_deref(), Some("worker_died"));
    assert_eq!(world.count_rows(&format!("job_events WHERE job_id = '{over}' AND seq = 1")).await, 1);
    assert_eq!(world.job(alive).await.status, JobStatus::Running, "its worker has shown itself");
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_and_the_rest_stays() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let jobs = new_jobs(&tenant, 3);
    insert(&world, &jobs).await;
    let user = tenant.user;
    world
        .run_sql(&format!(
            "UPDATE jobs SET status = 'completed', finished_at = now() - interval '91 days'; \
             UPDATE jobs SET finished_at = now() - interval '89 days' WHERE id = '{recent}'; \
             UPDATE jobs SET status = 'queued', finished_at = NULL, run_at = now() - interval '100 days' \
                 WHERE id = '{waiting}'; \
             INSERT INTO login_sessions (id, user_id, ended_at, last_used_at) VALUES \
                 (gen_random_uuid(), '{user}', now() - interval '31 days', now() - interval '40 days'), \
                 (gen_random_uuid(), '{user}', NULL, now() - interval '31 days'), \
                 ('{idle}', '{user}', NULL, now() - interval '31 days'), \
                 ('{ended}', '{user}', now(), now()); \
             INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES \
                 ('usable', '{idle}', now() + interval '1 day'), ('expired', '{idle}', now() - interval '1 day')",
            recent = jobs[1].id,
            waiting = jobs[2].id,
            idle = Uuid::from_u128(1),
            ended = Uuid::from_u128(2),
        ))
        .await;
    let _scheduler = world.scheduler().await;
    eventually("the old rows to go", async || {
        let left = (
            world.count_rows("jobs").await,
            world.count_rows("login_sessions").await,
            world.count_rows("refresh_tokens").await,
        );
        (left == (2, 2, 1)).then_some(())
    })
    .await;
    assert_eq!(world.count_rows("refresh_tokens WHERE hash = 'usable'").await, 1);
    assert_eq!(world.job(jobs[2].id).await.status, JobStatus::Queued);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_never_confirmed_goes_with_its_bytes() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let store = Storage::new(&ObjectStore::read(&mut Reader::new(world.settings(&[]))));
    let (product, abandoned, fresh) = (Uuid::now_v7(), format!("{}/a", world.prefix), format!("{}/b", world.prefix));
    for key in [&abandoned, &fresh] {
        store.put(key, Bytes::from_static(b"bytes"), "image/png").await.unwrap();
    }
    let mut conn = world.conn().await;
    diesel::sql_query("INSERT INTO products (id, user_id, title) VALUES ($1, $2, 'Test')")
        .bind::<SqlUuid, _>(product)
        .bind::<SqlUuid, _>(tenant.user)
        .execute(&mut conn)
        .await
        .unwrap();
    for (key, age) in [(&abandoned, "25 hours"), (&fresh, "23 hours")] {
        diesel::sql_query(
            "INSERT INTO product_images (id, product_id, user_id, s3_key, original_filename, content_type, \
                 file_size_bytes, created_at) \
             VALUES (gen_random_uuid(), $1, $2, $3, 'a.png', 'image/png', 5, now() - $4::interval)",
        )
        .bind::<SqlUuid, _>(product)
        .bind::<SqlUuid, _>(tenant.user)
        .bind::<Text, _>(key)
        .bind::<Text, _>(age)
        .execute(&mut conn)
        .await
        .unwrap();
    }
    let _scheduler = world.scheduler_with(&[("ATELIER_OBJECTS_EVERY", "1")]).await;
    eventually("the bytes to go", async || store.head(&abandoned).await.unwrap().is_none().then_some(())).await;
    eventually("the note to go", async || (world.count_rows("object_deletions").await == 0).then_some(())).await;
    assert_eq!(world.count_rows("product_images").await, 1);
    assert!(store.head(&fresh).await.unwrap().is_some(), "this upload still has an hour");
}

fn leads(process: &Process) -> Option<()> {
    process.log().contains("this scheduler leads now").then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_scheduler_leads_and_another_takes_over_when_it_is_killed_or_hangs() {
    let world = World::new().await;
    let mut first = world.process(&["scheduler"], &[]);
    eventually("the first to lead", async || leads(&first)).await;
    let mut second = world.process(&["scheduler"], &[]);
    eventually("the second to connect", async || (world.count_rows(CANDIDATES).await == 2).then_some(())).await;
    assert_eq!(leads(&second), None, "there is a leader already");

    first.kill();
    let dead = Instant::now();
    eventually("the second to lead", async || leads(&second)).await;
    assert!(dead.elapsed() < TAKEOVER, "after a kill it took {:?}", dead.elapsed());

    let third = world.process(&["scheduler"], &[]);
    eventually("the third to connect", async || (world.count_rows(CANDIDATES).await == 2).then_some(())).await;
    second.pause();
    let hung = Instant::now();
    eventually("the third to lead", async || leads(&third)).await;
    assert!(hung.elapsed() < TAKEOVER, "after a hang it took {:?}", hung.elapsed());
    second.resume();
    eventually("the second to notice", async || second.log().contains("no longer the leader").then_some(())).await;
}

/// The connections of schedulers that lead or want to.
const CANDIDATES: &str =
    "pg_stat_activity WHERE datname = current_database() AND application_name = 'atelier scheduler'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_its_connection_stands_again_and_ends_well() {
    let world = World::new().await;
    let mut process = world.process(&["scheduler"], &[]);
    eventually("it to lead", async || leads(&process)).await;
    world.run_sql(&format!("SELECT pg_terminate_backend(pid) FROM {CANDIDATES}")).await;
    eventually("it to lead again", async || {
        (process.log().matches("this scheduler leads now").count() == 2).then_some(())
    })
    .await;
    assert!(process.log().contains("no longer the leader"));
    assert!(process.terminate(), "it ended badly:\n{}", process.log());
}
