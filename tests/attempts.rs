//! Attempts: timeouts, retries, their limit, cancellation, and the fence that keeps an attempt which lost its job from
//! writing anything.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, TransactionManager};
use harness::{Tenant, World, assert_whole, eventually, project_root};
use serde_json::{Value, json};
use shared::{
    events::{Change, Progress},
    kind::{Kind, Probe},
    models::{Cancelled, Ending, Failure, Finish, Job, JobStatus, JobStep, Rescued, StepChange, StepKey, StepStatus},
};
use std::time::{Duration, Instant};
use uuid::Uuid;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

const NOTHING: Probe = Probe { steps: 0, hold_ms: 0 };

/// Longer than any test.
const ENDLESS: Probe = Probe { steps: 0, hold_ms: 60_000 };

fn error_codes(job: &Job) -> Vec<&str> {
    job.errors.as_array().unwrap().iter().map(|entry| entry["code"].as_str().unwrap()).collect()
}

fn failure() -> Failure {
    Failure { code: "test".to_owned(), message: "A test wants it so.".to_owned() }
}

fn finish(job: &Job, ending: Ending) -> Finish {
    Finish { id: job.id, kind: job.kind, attempt: job.attempt, ending }
}

fn step_change(status: StepStatus) -> StepChange<'static> {
    StepChange {
        key: StepKey { item: Uuid::nil(), name: "step_0", position: 0 },
        status,
        started_at: chrono::Utc::now(),
        error_message: None,
        result: json!({ "found": 1 }),
        told: None,
        progress: Progress { completed: 0, total: 1 },
    }
}

/// Claims a job as a worker does.
async fn claim(world: &World, id: Uuid) -> Job {
    let mut claimed = Job::claim(&mut *world.conn().await, &[id], "a test", 3).await.unwrap();
    claimed.pop().unwrap()
}

/// A job that nobody but the test works on, claimed.
async fn claimed_probe(world: &World, tenant: &Tenant) -> Job {
    let id = world.insert_probes(tenant, &NOTHING, 1).await.remove(0);
    claim(world, id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_long_fails_after_its_last_attempt() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let file = world.workers_file("timeout_seconds = 120", "timeout_seconds = 1");
    let _worker = world.worker_with(&["probes"], &[("ATELIER_WORKERS_FILE", &file)]).await;
    let id = world.submit_one(&tenant, Probe { steps: 1, hold_ms: 60_000 }).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!((job.attempt, job.max_attempts, job.forgiven, job.crashes), (3, 3, 0, 0));
    assert_eq!(error_codes(&job), ["timeout", "timeout", "timeout"]);
    assert_eq!(job.error_code.as_deref(), Some("timeout"));
    assert_eq!(
        job.error_message.as_deref(),
        Some("The attempt took longer than the 1 s of its pool. (after 3 attempts)")
    );
    let steps = world.steps(id).await;
    assert_eq!((steps[0].status, steps[0].attempt), (StepStatus::Failed, 3), "no step is left running");
    assert_whole(&world.events(id).await, JobStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_behind_the_steps_that_are_finished() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let file = world.workers_file("timeout_seconds = 120", "timeout_seconds = 2");
    let _worker = world.worker_with(&["probes"], &[("ATELIER_WORKERS_FILE", &file)]).await;
    let id = world.submit_one(&tenant, Probe { steps: 3, hold_ms: 1_200 }).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(error_codes(&job), ["timeout", "timeout"]);
    let attempts: Vec<_> = world.steps(id).await.iter().map(|step| step.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_whole(&world.events(id).await, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_waits_for_an_object_store_that_is_away() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Cup").await;
    let photo = project_root().join("tests/images/rocket.jpg");
    let (_, job) = member.analysed_image(&product, &photo, "image/jpeg").await;
    let id = job.parse().unwrap();
    let cut_off = world.worker_with(&["images"], &[("ATELIER_S3_ENDPOINT", "http://127.0.0.1:9")]).await;
    eventually("the first attempt to end", async || (error_count(&world.job(id).await.errors) > 0).then_some(())).await;
    cut_off.stop().await;
    let job = world.job(id).await;
    assert_eq!((job.status, job.errors[0]["code"].as_str()), (JobStatus::Queued, Some("storage_unavailable")));
    let _worker = world.worker(&["images"]).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert!(job.attempt >= 2);
    assert_whole(&world.events(id).await, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_cancelled_at_once_and_never_runs() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let id = world.submit_one(&tenant, ENDLESS).await;
    assert!(matches!(world.cancel(&tenant, id).await, Cancelled::AtOnce(_)));
    assert!(matches!(world.cancel(&tenant, id).await, Cancelled::TooLate(JobStatus::Cancelled)));
    let _worker = world.worker(&["probes"]).await;
    let behind = world.submit_one(&tenant, NOTHING).await;
    world.wait_for_status(behind, JobStatus::Completed).await;
    let job = world.job(id).await;
    assert_eq!((job.status, job.attempt, job.started_at), (JobStatus::Cancelled, 0, None));
    assert_whole(&world.events(id).await, JobStatus::Cancelled);
    eventually("Redis to forget both", async || {
        let depth = world.queue("probes").depth().await.unwrap();
        (depth.ready + depth.delayed + depth.leased == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_ends_within_a_second_of_its_cancellation() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["probes"]).await;
    let id = world.submit_one(&tenant, Probe { steps: 2, hold_ms: 60_000 }).await;
    eventually("its first step to run", async || (!world.steps(id).await.is_empty()).then_some(())).await;
    let asked = Instant::now();
    assert!(matches!(world.cancel(&tenant, id).await, Cancelled::Requested));
    let job = world.wait_for_status(id, JobStatus::Cancelled).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    assert_eq!((job.attempt, job.error_code), (1, None));
    let steps = world.steps(id).await;
    assert_eq!(steps.len(), 1);
    assert_eq!(
        (steps[0].status, steps[0].error_message.as_deref()),
        (StepStatus::Failed, Some("The job was cancelled."))
    );
    assert_whole(&world.events(id).await, JobStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_redis_did_not_carry_is_found_by_the_heartbeat() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["probes"]).await;
    let id = world.submit_one(&tenant, ENDLESS).await;
    world.wait_for_status(id, JobStatus::Running).await;
    world.redis_server(|redis| redis.stop());
    let cancelled = Job::cancel(&mut *world.conn().await, id, tenant.user).await.unwrap();
    assert!(matches!(cancelled, Some(Cancelled::Requested)));
    let asked = Instant::now();
    world.wait_for_status(id, JobStatus::Cancelled).await;
    assert!(asked.elapsed() < Duration::from_secs(8), "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_lost_its_job_writes_nothing() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let first = claimed_probe(&world, &tenant).await;
    let id = first.id;
    let mut conn = world.conn().await;
    JobStep::record(&mut conn, id, 1, &step_change(StepStatus::Running)).await.unwrap().unwrap();
    let rescued = Job::rescue(&mut conn, Duration::ZERO, 10).await.unwrap();
    assert!(matches!(&rescued[..], [Rescued::Again(waiting)] if waiting.id == id));
    let second = claim(&world, id).await;
    assert_eq!((first.attempt, second.attempt), (1, 2));

    let before = format!("{:?}{:?}{:?}", world.job(id).await, world.steps(id).await, world.events(id).await);
    for ending in [Ending::Completed(json!({})), Ending::Failed(failure(), None), Ending::Cancelled] {
        assert!(Job::finish(&mut conn, &[finish(&first, ending)]).await.unwrap().events.is_empty());
    }
    let recorded = JobStep::record(&mut conn, id, 1, &step_change(StepStatus::Completed)).await.unwrap();
    assert!(recorded.is_none());
    let again = Job::retry(&mut conn, id, 1, Duration::ZERO, false, &failure()).await.unwrap();
    assert!(again.is_none());
    assert!(Job::heartbeat(&mut conn, &[(id, 1)]).await.unwrap().is_empty());
    let after = format!("{:?}{:?}{:?}", world.job(id).await, world.steps(id).await, world.events(id).await);
    assert_eq!(after, before);

    let ends = Job::finish(&mut conn, &[finish(&second, Ending::Completed(json!({ "by": 2 })))]).await.unwrap().events;
    assert_eq!(ends.len(), 1);
    assert!(
        Job::finish(&mut conn, &[finish(&second, Ending::Cancelled)]).await.unwrap().events.is_empty(),
        "an end is final"
    );
    let job = world.job(id).await;
    assert_eq!((job.status, job.result), (JobStatus::Completed, Some(json!({ "by": 2 }))));
    assert_whole(&world.events(id).await, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_different_fates_end_in_one_statement() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (good, bad, stopped, lost) = (
        claimed_probe(&world, &tenant).await,
        claimed_probe(&world, &tenant).await,
        claimed_probe(&world, &tenant).await,
        claimed_probe(&world, &tenant).await,
    );
    let mut conn = world.conn().await;
    for (id, status) in
        [(good.id, StepStatus::Completed), (bad.id, StepStatus::Running), (stopped.id, StepStatus::Running)]
    {
        JobStep::record(&mut conn, id, 1, &step_change(status)).await.unwrap().unwrap();
    }
    let stale = Finish { attempt: 0, ..finish(&lost, Ending::Cancelled) };
    let finishes = [
        finish(&good, Ending::Completed(json!({ "text": "a\0b" }))),
        finish(&bad, Ending::Failed(Failure { message: "bad\0".to_owned(), ..failure() }, Some(json!({ "half": 1 })))),
        stale,
        finish(&stopped, Ending::Cancelled),
    ];
    let events = Job::finish(&mut conn, &finishes).await.unwrap().events;
    assert_eq!(events.len(), 3);
    for (job, status, completed) in
        [(&good, JobStatus::Completed, 1), (&bad, JobStatus::Failed, 1), (&stopped, JobStatus::Cancelled, 1)]
    {
        let stored = world.events(job.id).await;
        assert_whole(&stored, status);
        let last = stored.last().unwrap();
        assert_eq!(
            events.iter().find(|event| event.job_id == job.id),
            Some(last),
            "what is published is what is stored"
        );
        assert_eq!(last.body.progress, Progress { completed, total: 1 });
        assert!(world.steps(job.id).await.iter().all(|step| step.status != StepStatus::Running));
    }
    let good = world.job(good.id).await;
    assert_eq!((good.result, error_count(&good.errors)), (Some(json!({ "text": "a\u{fffd}b" })), 0));
    let bad = world.job(bad.id).await;
    assert_eq!((bad.result, bad.error_message.as_deref()), (Some(json!({ "half": 1 })), Some("bad\u{fffd}")));
    assert_eq!(error_count(&bad.errors), 1);
    let last = world.events(bad.id).await.pop().unwrap();
    let told = Change::JobFinished {
        status: JobStatus::Failed,
        data: json!({ "error_code": "test", "error_message": "bad\u{fffd}", "result": { "half": 1 } }),
    };
    assert_eq!(last.body.change, told);
    assert_eq!(world.job(lost.id).await.status, JobStatus::Running);
    Job::finish(&mut conn, &[finish(&lost, Ending::Cancelled)]).await.unwrap();
}

fn error_count(errors: &Value) -> usize {
    errors.as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_to_be_cancelled_gets_no_further_attempt() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (failing, dying) = (claimed_probe(&world, &tenant).await, claimed_probe(&world, &tenant).await);
    for job in [&failing, &dying] {
        assert!(matches!(world.cancel(&tenant, job.id).await, Cancelled::Requested));
    }
    let mut conn = world.conn().await;
    let again = Job::retry(&mut conn, failing.id, 1, Duration::ZERO, true, &failure()).await.unwrap();
    assert!(again.is_none());
    assert_eq!(Job::finish(&mut conn, &[finish(&failing, Ending::Cancelled)]).await.unwrap().events.len(), 1);
    let rescued = Job::rescue(&mut conn, Duration::ZERO, 10).await.unwrap();
    assert!(matches!(&rescued[..], [Rescued::Ended(ended)] if ended.events[0].job_id == dying.id));
    assert_eq!(world.job(dying.id).await.status, JobStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_there_when_processes_died_has_its_last_attempt_alone() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let id = claimed_probe(&world, &tenant).await.id;
    let mut conn = world.conn().await;
    Job::rescue(&mut conn, Duration::ZERO, 10).await.unwrap();
    // one death of three allowed: like any other job, unless the pool allows only two
    assert!(Job::list_suspects(&mut conn, &[id], 3).await.unwrap().is_empty());
    assert_eq!(Job::list_suspects(&mut conn, &[id], 2).await.unwrap(), [id]);
    assert_eq!(claim(&world, id).await.attempt, 2);
    Job::rescue(&mut conn, Duration::ZERO, 10).await.unwrap();
    // two deaths: alone
    assert!(Job::claim(&mut conn, &[id], "a test", 9).await.unwrap().is_empty());
    assert_eq!(Job::list_suspects(&mut conn, &[id], 9).await.unwrap(), [id]);
    let alone = Job::claim_suspect(&mut conn, id, "a test", 3).await.unwrap().unwrap();
    assert_eq!((alone.attempt, alone.crashes), (3, 2));
    Job::finish(&mut conn, &[finish(&alone, Ending::Completed(json!({})))]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_two_jobs_that_end_together_frees_their_product() {
    let world = World::new().await;
    let Tenant { user, organization, .. } = world.tenant(1).await;
    let (product, jobs) = (Uuid::now_v7(), [Uuid::now_v7(), Uuid::now_v7()]);
    let mut statements = format!(
        "INSERT INTO products (id, user_id, title, status) VALUES ('{product}', '{user}', 'Cup', 'processing');"
    );
    for job in jobs {
        let image = Uuid::now_v7();
        statements.push_str(&format!(
            "INSERT INTO product_images (id, product_id, user_id, s3_key, original_filename, content_type, \
                 file_size_bytes) VALUES ('{image}', '{product}', '{user}', '{image}', 'a.png', 'image/png', 1); \
             INSERT INTO jobs (id, kind, queue, organization_id, user_id, payload, max_attempts) \
                 VALUES ('{job}', 'image_analysis', 'images', '{organization}', '{user}', \
                 '{{\"product_id\": \"{product}\"}}', 5); \
             INSERT INTO job_images (job_id, image_id, position) VALUES ('{job}', '{image}', 0);"
        ));
    }
    world.run_sql(&statements).await;
    let (mut one, mut other) = (world.conn().await, world.conn().await);
    let claimed = Job::claim(&mut one, &jobs, "a test", 5).await.unwrap();
    assert!(claimed.iter().all(|job| job.kind == Kind::ImageAnalysis));
    let finishes: Vec<_> = claimed.iter().map(|job| finish(job, Ending::Failed(failure(), None))).collect();

    // the second ends while the transaction of the first is still open
    Transactions::begin_transaction(&mut *one).await.unwrap();
    assert_eq!(Job::finish(&mut one, &finishes[..1]).await.unwrap().events.len(), 1);
    let mut second = Box::pin(Job::finish(&mut other, &finishes[1..]));
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(waits.is_err(), "it waits until it can see how the other ended");
    Transactions::commit_transaction(&mut *one).await.unwrap();
    assert_eq!(second.await.unwrap().events.len(), 1);
    let status = diesel::sql_query(format!("SELECT status AS text FROM products WHERE id = '{product}'"))
        .get_result::<Word>(&mut one)
        .await
        .unwrap();
    assert_eq!(status.text, "draft");
}

#[derive(diesel::QueryableByName)]
struct Word {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}
