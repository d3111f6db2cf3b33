//! Many jobs: they all end, each once, in fair turns, and Redis is as empty afterwards as before.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use harness::{Tenant, World, eventually};
use redis::InfoDict;
use shared::{
    kind::Probe,
    models::{Job, JobStatus},
    schema::jobs,
};
use std::collections::BTreeSet;
use uuid::Uuid;

const NOTHING: Probe = Probe { steps: 0, hold_ms: 0 };

async fn used_memory(world: &World) -> u64 {
    let info: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut world.redis.clone()).await.unwrap();
    info.get("used_memory").unwrap()
}

/// Waits until Redis has forgotten every job.
async fn forgotten(world: &World) {
    let pattern = format!("{{{}:*", world.prefix);
    eventually("Redis to forget all jobs", async || {
        let keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut world.redis.clone()).await.ok()?;
        keys.is_empty().then_some(())
    })
    .await;
}

async fn load(world: &World, ids: &[Uuid]) -> Vec<Job> {
    jobs::table.filter(jobs::id.eq_any(ids)).select(Job::as_select()).load(&mut world.conn().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_jobs_pushed_at_once_drain_and_leave_no_memory_behind() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let _worker = world.process(&["worker", "--pool", "probes"], &[]);
    // connections, scripts and buffers are there after a first round
    let warm = world.submit(&tenant, &NOTHING, 500).await;
    world.wait_for_count(&warm, JobStatus::Completed, warm.len()).await;
    forgotten(&world).await;
    let before = used_memory(&world).await;

    let ids = world.submit(&tenant, &NOTHING, 20_000).await;
    let full = used_memory(&world).await;
    assert!(full > before + 1_000_000, "the jobs were in Redis: {before} bytes before, {full} with them");
    world.drain().await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 1).await;
    forgotten(&world).await;
    let after = used_memory(&world).await;
    assert!(after * 100 <= before * 105, "{before} bytes before, {after} after");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_thousand_jobs_and_run_each_once() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _one, _two) =
        (world.scheduler().await, world.worker(&["probes"]).await, world.worker(&["probes"]).await);
    let ids = world.submit(&tenant, &Probe { steps: 1, hold_ms: 5 }, 1_000).await;
    world.drain().await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 1).await;
    let jobs = load(&world, &ids).await;
    let workers: BTreeSet<_> = jobs.iter().filter_map(|job| job.worker.as_deref()).collect();
    assert_eq!(workers.len(), 2, "both had their share");
    for id in ids.iter().take(20) {
        assert_eq!(world.steps(*id).await.len(), 1);
        assert_eq!(world.events(*id).await.len(), 3, "begun, done, ended");
    }
}

/// How long a job of `tenant` waits for its start, and when it was submitted.
async fn wait_of_one(world: &World, tenant: &Tenant) -> (TimeDelta, Job) {
    let id = world.submit_one(tenant, NOTHING).await;
    let pushed = Utc::now();
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    ((job.started_at.unwrap() - pushed).max(TimeDelta::zero()), job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_tenant_delays_another_by_one_job() {
    const SLOTS: usize = 64;
    let world = World::new().await;
    let (flooder, other) = (world.tenant(1).await, world.tenant(1).await);
    let _worker = world.worker(&["probes"]).await;
    let mut idle = TimeDelta::zero();
    for _ in 0..10 {
        idle = idle.max(wait_of_one(&world, &other).await.0);
    }

    let flood = world.submit(&flooder, &Probe { steps: 0, hold_ms: 200 }, 2_000).await;
    world.wait_for_count(&flood, JobStatus::Running, SLOTS / 2).await;
    let (wait, job) = wait_of_one(&world, &other).await;
    assert!(world.count(&flood, JobStatus::Queued).await > 1_000, "the flood was still there");
    world.drain().await;

    let flood = load(&world, &flood).await;
    let overtook = |flooding: &&Job| flooding.started_at > Some(job.created_at) && flooding.started_at < job.started_at;
    let ahead = flood.iter().filter(overtook).count();
    assert!(ahead <= SLOTS, "{ahead} jobs of the flood were started before it");
    let one_job = flood.iter().map(|job| job.finished_at.unwrap() - job.started_at.unwrap()).max().unwrap();
    assert!(wait <= idle * 2 + one_job, "it waited {wait}, an idle worker takes {idle}, a job {one_job}");
}
