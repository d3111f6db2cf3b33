//! Receivers that are slow or dead, and those beside them.

use super::with;
use harness::{Receiver, Reply, World, eventually};
use shared::models::JobStatus;

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_delays_nobody_else() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let hole = world.hook(&tenant, &receiver.url("/hole")).await;
    receiver.answer("/hole", Reply::held());
    let lost = world.insert_deliveries(&hole, "job.completed", 2_000).await;
    let mut healthy = Vec::new();
    for number in 0..10 {
        let hook = world.hook(&tenant, &receiver.url(&format!("/healthy/{number}"))).await;
        healthy.extend(world.insert_deliveries(&hook, "job.completed", 100).await);
    }
    // the black hole's come first
    world.hint_deliveries(&tenant, &lost).await;
    let _worker = world.worker_with(&["deliveries"], &with(&[("ATELIER_WEBHOOK_TIMEOUT", "30")])).await;
    eventually("the black hole to swallow", async || (receiver.count("/hole") > 0).then_some(())).await;
    world.hint_deliveries(&tenant, &healthy).await;
    world.all_delivered(&healthy).await;
    assert_eq!(world.count_tries(&lost).await, 0, "its first requests still hang");
    assert!(receiver.most_open("/hole") <= 4, "a receiver has to answer before it gets more");
    let waiting = world.count(&lost, JobStatus::Queued).await;
    assert!(waiting >= lost.len() - 4, "{waiting} wait without a slot");
    let untouched: Vec<_> = futures_util::future::join_all(lost[100..110].iter().map(|id| world.job(*id))).await;
    assert!(untouched.iter().all(|job| job.attempt <= 1 && job.forgiven == 0), "to be put back is no try");
    receiver.release();
    world.forget_deliveries(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receiver_gets_more_requests_at_a_time_than_the_cap() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer("/hook", Reply::status(200).after(std::time::Duration::from_millis(20)));
    let _worker = world.worker_with(&["deliveries"], &with(&[("ATELIER_WEBHOOK_CONCURRENCY", "8")])).await;
    let ids = world.deliver(&hook, 500).await;
    world.all_delivered(&ids).await;
    assert_eq!(receiver.most_open("/hook"), 8);
    assert_eq!(receiver.count("/hook"), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_is_left_in_peace_and_taken_up_again_when_it_does() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer("/hook", Reply::held());
    let settings = with(&[("ATELIER_WEBHOOK_SCHEDULE", "1s,1s,1s,1s,1s,1s,1s,1s,1s")]);
    let _worker = world.worker_with(&["deliveries"], &settings).await;
    let ids = world.deliver(&hook, 300).await;
    eventually("five of them to time out", async || (world.count_tries(&ids).await >= 5).then_some(())).await;
    // the circuit is open: what is not on its way by now waits
    let asked = receiver.count("/hook");
    assert!(asked <= 10, "{asked} requests to a receiver that does not answer");
    receiver.release();
    receiver.answer("/hook", Reply::status(200));
    world.all_delivered(&ids).await;
    let jobs = futures_util::future::join_all(ids.iter().map(|id| world.job(*id))).await;
    let tried_again = jobs.iter().filter(|job| job.attempt > 1).count();
    assert!(tried_again <= 10, "waiting cost {tried_again} of them a try");
}
