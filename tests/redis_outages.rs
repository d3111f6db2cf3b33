//! Redis emptied, restarted, stopped and frozen: what was accepted ends, each job once, and running handlers notice
//! nothing.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Tenant, World, eventually, project_root};
use serde_json::json;
use shared::{kind::Probe, models::JobStatus};
use std::time::{Duration, Instant};
use uuid::Uuid;

const fn probe(steps: u16, hold_ms: u64) -> Probe {
    Probe { steps, hold_ms }
}

/// 200 jobs, of which some run and most wait.
async fn two_hundred(world: &World, tenant: &Tenant) -> Vec<Uuid> {
    let ids = world.submit(tenant, &probe(2, 500), 200).await;
    world.wait_for_count(&ids, JobStatus::Running, 30).await;
    assert!(world.count(&ids, JobStatus::Queued).await > 50, "most of them wait");
    ids
}

async fn all_end_in_their_first_attempt(world: &World, ids: &[Uuid]) {
    world.wait_for_count(ids, JobStatus::Completed, ids.len()).await;
    world.assert_each_ended_once(ids, JobStatus::Completed, 1).await;
    eventually("Redis to forget them", async || {
        let depth = world.queue("probes").depth().await.ok()?;
        (depth.ready + depth.delayed + depth.leased == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_flushall_every_job_ends_once() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    let ids = two_hundred(&world, &tenant).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut world.redis.clone()).await.unwrap();
    all_end_in_their_first_attempt(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_redis_with_its_data_every_job_ends_once() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    let ids = two_hundred(&world, &tenant).await;
    world.redis_server(|redis| redis.start_again());
    all_end_in_their_first_attempt(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_redis_that_lost_its_data_every_job_ends_once() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    // nothing of this reaches the disk
    let _: () =
        redis::cmd("CONFIG").arg(&["SET", "appendonly", "no"]).query_async(&mut world.redis.clone()).await.unwrap();
    let ids = two_hundred(&world, &tenant).await;
    world.redis_server(|redis| {
        redis.kill()?;
        redis.start_again()
    });
    all_end_in_their_first_attempt(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_jobs_are_accepted_and_running_ones_are_not_cut() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    let running = world.submit(&tenant, &probe(22, 1_000), 20).await;
    world.wait_for_count(&running, JobStatus::Running, running.len()).await;

    world.redis_server(|redis| redis.stop());
    let accepted = world.insert_probes(&tenant, &probe(1, 10), 100).await;
    world.push(&tenant, &accepted).await.unwrap_err();
    // the outage itself: longer than a lease
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.count(&running, JobStatus::Running).await, running.len(), "nobody took them away");
    world.redis_server(|redis| redis.start_again());

    let all: Vec<_> = running.iter().chain(&accepted).copied().collect();
    all_end_in_their_first_attempt(&world, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_the_api_accepts_a_hundred_jobs_and_all_of_them_end() {
    let world = World::with_own_redis().await;
    let (api, _scheduler) = (world.api().await, world.scheduler().await);
    let (_worker, member) = (world.worker(&["images"]).await, world.member(&api).await);
    world.unlimited().await;
    let product = member.product("Cups").await;
    let file = project_root().join("tests/images/bad/text.jpg");
    let mut images = Vec::new();
    for _ in 0..100 {
        images.push(member.uploaded_image(&product, &file, "image/jpeg").await);
    }

    world.redis_server(|redis| redis.stop());
    let stopped = Instant::now();
    let mut accepted = Vec::new();
    for image in &images {
        let answer = member.client.post("/uploads/confirm", json!({ "image_id": image })).await.expect(200);
        accepted.push(answer["job_id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    assert!(stopped.elapsed() < Duration::from_secs(40), "100 jobs were accepted in {:?}", stopped.elapsed());
    // the outage itself
    tokio::time::sleep_until(tokio::time::Instant::from_std(stopped + Duration::from_secs(20))).await;
    assert_eq!(world.count(&accepted, JobStatus::Queued).await, 100);
    world.redis_server(|redis| redis.start_again());

    // text is no photo: they end quickly, and as they should
    world.wait_for_count(&accepted, JobStatus::Failed, 100).await;
    world.assert_each_ended_once(&accepted, JobStatus::Failed, 1).await;
    for image in &images {
        let analysis = member.client.get(&format!("/analysis/{image}")).await.expect(200);
        assert_eq!(analysis["status"], "failed", "{analysis}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_frozen_running_jobs_go_on() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    let running = world.submit(&tenant, &probe(3, 1_000), 60).await;
    let waiting = world.submit(&tenant, &probe(1, 10), 60).await;
    world.wait_for_count(&running, JobStatus::Running, 60).await;

    world.redis_server(|redis| redis.pause());
    world.wait_for_count(&running, JobStatus::Completed, running.len()).await;
    // the freeze itself: longer than a lease, and than any patience with one command
    tokio::time::sleep(Duration::from_secs(17)).await;
    world.redis_server(|redis| redis.resume());

    let all: Vec<_> = running.iter().chain(&waiting).copied().collect();
    all_end_in_their_first_attempt(&world, &all).await;
}
