//! Webhooks that want their deliveries one at a time, in order.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use super::{with, worker};
use diesel_async::RunQueryDsl;
use harness::{Received, Receiver, Reply, World};
use shared::models::JobStatus;
use std::time::Duration;
use uuid::Uuid;

/// The ids in the order of their first arrival.
fn first_arrivals(receiver: &Receiver, path: &str) -> Vec<Uuid> {
    let mut seen = Vec::new();
    for id in receiver.received(path).iter().map(Received::id) {
        if !seen.contains(&id) {
            seen.push(id);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn they_come_one_at_a_time_in_order_whoever_sends_them_and_whatever_fails() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    world.change_hook(&hook, "ordered = TRUE").await;
    receiver.answer("/hook", Reply::status(200).after(Duration::from_millis(2)));
    let ok = || Reply::status(200);
    receiver.answer_next("/hook", [ok(), Reply::status(500), ok(), ok(), Reply::status(503), Reply::status(500), ok()]);
    let (_one, _two) = (worker(&world).await, worker(&world).await);
    let mut ids = world.insert_deliveries(&hook, "job.completed", 100).await;
    // Redis hears of them in the wrong order
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    world.hint_deliveries(&hook.tenant, &backwards).await;
    ids.extend(world.deliver(&hook, 100).await);
    world.all_delivered(&ids).await;
    assert_eq!(first_arrivals(&receiver, "/hook"), ids);
    assert_eq!(receiver.most_open("/hook"), 1);
    assert_eq!(receiver.count("/hook"), 203, "three were refused once");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_for_good_lets_the_others_go() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    world.change_hook(&hook, "ordered = TRUE").await;
    receiver.answer_next("/hook", vec![Reply::status(500); 3]);
    let ids = world.deliver(&hook, 5).await;
    world.cancel(&hook.tenant, ids[2]).await;
    let _worker = worker(&world).await;
    world.drain().await;
    assert_eq!(world.job(ids[0]).await.status, JobStatus::Failed);
    assert_eq!(first_arrivals(&receiver, "/hook"), [ids[0], ids[1], ids[3], ids[4]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_nobody_woke_goes_on_when_redis_is_told_again() {
    let (world, receiver) = (World::with_own_redis().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    world.change_hook(&hook, "ordered = TRUE").await;
    let settings = with(&[("ATELIER_WEBHOOK_SCHEDULE", "1s,1s,1s,1s,1s,1s")]);
    let _worker = world.worker_with(&["deliveries"], &settings).await;
    receiver.answer_next("/hook", [Reply::status(500)]);
    let ids = world.deliver(&hook, 20).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut world.redis.clone()).await.unwrap();
    let _scheduler = world.scheduler().await;
    world.all_delivered(&ids).await;
    assert_eq!(first_arrivals(&receiver, "/hook"), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_opened_again_go_in_order_too_and_the_newer_wait_for_them() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    world.change_hook(&hook, "ordered = TRUE").await;
    let old = world.deliver(&hook, 120).await;
    let worker_before = worker(&world).await;
    world.all_delivered(&old).await;
    worker_before.stop().await;
    let before = receiver.count("/hook");
    diesel::sql_query(
        "UPDATE jobs SET status = 'queued', run_at = now(), forgiven = attempt, finished_at = NULL WHERE id = ANY($1)",
    )
    .bind::<diesel::sql_types::Array<diesel::sql_types::Uuid>, _>(&old[..30])
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    let new = world.insert_deliveries(&hook, "job.completed", 10).await;
    world.hint_deliveries(&hook.tenant, &old[..30]).await;
    world.hint_deliveries(&hook.tenant, &new).await;
    let _worker = worker(&world).await;
    let again: Vec<_> = old[..30].iter().chain(&new).copied().collect();
    world.all_delivered(&again).await;
    let came: Vec<_> = receiver.received("/hook")[before..].iter().map(Received::id).collect();
    assert_eq!(came, again);
}
