//! Receivers, workers and Redis that fail: every event arrives, with the same id, and is recorded once.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use super::{DELIVERIES, SETTINGS, with, worker};
use harness::{Receiver, Reply, World, eventually};
use shared::models::JobStatus;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_missed_while_it_was_down_arrives_when_it_is_up() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let (address, url) = (receiver.address, receiver.url("/hook"));
    drop(receiver);
    let hook = world.hook(&world.tenant(1).await, &url).await;
    let settings = with(&[("ATELIER_WEBHOOK_SCHEDULE", "1s,1s,2s,4s,8s,8s,8s,8s,8s,8s,8s,8s")]);
    let _worker = world.worker_with(&["deliveries"], &settings).await;
    let ids = world.deliver(&hook, 50).await;
    eventually("the receiver to be missed", async || (world.count_tries(&ids).await >= 5).then_some(())).await;
    let receiver = Receiver::on(address).await;
    world.all_delivered(&ids).await;
    let arrived: BTreeSet<_> = receiver.received("/hook").iter().map(harness::Received::id).collect();
    assert_eq!(arrived, ids.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_request_loses_nothing() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer_next("/hook", [Reply::held()]);
    let _scheduler = world.scheduler().await;
    let mut first = world.process(&DELIVERIES, &with(&[("ATELIER_WEBHOOK_TIMEOUT", "30")]));
    let id = world.deliver(&hook, 1).await[0];
    eventually("the request", async || (receiver.count("/hook") == 1).then_some(())).await;
    first.kill();
    let _second = worker(&world).await;
    let job = world.delivered(id).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Completed, 2));
    let received = receiver.received("/hook");
    assert_eq!(received.iter().map(harness::Received::id).collect::<Vec<_>>(), [id, id], "the same id");
    let tries = world.tries(id).await;
    assert_eq!((tries.len(), tries[0].attempt), (1, 2), "of the first try nobody knows the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_after_its_delivery_was_taken_over_records_nothing() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer_next("/hook", [Reply::held()]);
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let mut stalled = world.process(&DELIVERIES, &with(&[("ATELIER_WEBHOOK_TIMEOUT", "30")]));
    let id = world.deliver(&hook, 1).await[0];
    eventually("the request", async || (receiver.count("/hook") == 1).then_some(())).await;
    stalled.pause();
    let _second = worker(&world).await;
    world.delivered(id).await;
    let before = format!("{:?} {:?}", world.job(id).await, world.tries(id).await);
    receiver.release();
    stalled.resume();
    // it does something else now, so it has woken up
    let probe = world.deliver(&hook, 20).await;
    world.all_delivered(&probe).await;
    eventually("the stalled worker to notice", async || stalled.log().contains("\"lost\"").then_some(())).await;
    assert_eq!(format!("{:?} {:?}", world.job(id).await, world.tries(id).await), before);
    assert_eq!(world.tries(id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_survive_a_redis_that_is_emptied_and_hints_that_were_never_sent() {
    let (world, receiver) = (World::with_own_redis().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    let mut ids = world.deliver(&hook, 200).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut world.redis.clone()).await.unwrap();
    ids.extend(world.insert_deliveries(&hook, "job.completed", 200).await);
    let _scheduler = world.scheduler().await;
    let _worker = world.worker_with(&["deliveries"], &SETTINGS).await;
    world.all_delivered(&ids).await;
    let arrived: Vec<_> = receiver.received("/hook").iter().map(harness::Received::id).collect();
    assert_eq!(arrived.len(), 400, "each once, since nothing else failed");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
}
