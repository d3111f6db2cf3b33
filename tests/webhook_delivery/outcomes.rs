//! What receivers answer, and what becomes of the delivery and of the webhook.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use super::{SETTINGS, with, worker};
use harness::{Receiver, Reply, World};
use shared::models::JobStatus;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn any_2xx_is_taken_and_everything_else_is_tried_three_times() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world).await;
    for status in [200, 201, 202, 204, 206, 299] {
        receiver.answer(&format!("/{status}"), Reply::status(status));
        let hook = world.hook(&tenant, &receiver.url(&format!("/{status}"))).await;
        let id = world.deliver(&hook, 1).await[0];
        assert_eq!(world.delivered(id).await.status, JobStatus::Completed, "{status}");
    }
    for status in [301, 302, 307, 400, 401, 403, 404, 409, 429, 500, 502, 503] {
        let path = format!("/{status}");
        receiver.answer(&path, Reply::status(status).with("location", &receiver.url("/elsewhere")).body("no"));
        let hook = world.hook(&tenant, &receiver.url(&path)).await;
        let id = world.deliver(&hook, 1).await[0];
        let job = world.delivered(id).await;
        assert_eq!((job.status, job.error_code.as_deref()), (JobStatus::Failed, Some("delivery_failed")), "{status}");
        let expected = i16::try_from(status).unwrap();
        let tries = world.tries(id).await;
        assert_eq!(tries.iter().map(|tried| tried.attempt).collect::<Vec<_>>(), [1, 2, 3], "{status}");
        assert!(tries.iter().all(|tried| tried.status == Some(expected) && tried.answer.as_deref() == Some("no")));
        assert!(tries[2].error.as_deref().unwrap().contains(&status.to_string()));
        assert_eq!(job.errors.as_array().unwrap().len(), 3);
        assert!(receiver.received(&path).iter().all(|received| received.id() == id), "the same id each time");
        let row = world.hook_row(&hook).await;
        assert_eq!((row.failures, row.is_active), (1, true), "{status}");
    }
    assert_eq!(receiver.count("/elsewhere"), 0, "redirects are not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_retry_after_is_waited_for() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let date = httpdate_in(Duration::from_secs(3));
    for (path, asked) in [("/seconds", "2"), ("/date", date.as_str())] {
        receiver.answer_next(path, [Reply::status(503).with("retry-after", asked)]);
        let hook = world.hook(&tenant, &receiver.url(path)).await;
        world.deliver(&hook, 1).await;
    }
    let _worker = worker(&world).await;
    world.drain().await;
    for path in ["/seconds", "/date"] {
        let [first, second] = &receiver.received(path)[..] else { panic!("{path}: two tries") };
        assert!(second.at - first.at >= Duration::from_secs(1), "{path}: after {:?}", second.at - first.at);
    }
}

/// A date as HTTP writes it, rounded down to a second.
fn httpdate_in(time: Duration) -> String {
    (chrono::Utc::now() + time).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_switches_the_webhook_off_and_its_owner_is_told() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let hook = world.hook(&tenant, &receiver.url("/hook")).await;
    receiver.answer("/hook", Reply::status(410));
    let _worker = worker(&world).await;
    let id = world.deliver(&hook, 1).await[0];
    let job = world.delivered(id).await;
    assert_eq!((job.status, job.error_code.as_deref()), (JobStatus::Failed, Some("receiver_gone")));
    assert_eq!(world.tries(id).await.len(), 1, "it is not tried again");
    let row = world.hook_row(&hook).await;
    assert_eq!((row.is_active, row.disabled_reason.as_deref()), (false, Some("gone")));
    let letters = world.take_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["letter"], "webhook_disabled");
    assert_eq!(letters[0]["webhook_id"], hook.id.to_string());

    // what waits for it ends without a request, but for tests
    let waiting = world.deliver(&hook, 3).await;
    let test = world.insert_deliveries(&hook, "webhook.test", 1).await[0];
    receiver.answer("/hook", Reply::status(200));
    world.hint_deliveries(&tenant, &[test]).await;
    for id in waiting {
        assert_eq!(world.delivered(id).await.error_code.as_deref(), Some("webhook_inactive"));
        assert!(world.tries(id).await.is_empty());
    }
    assert_eq!(world.delivered(test).await.status, JobStatus::Completed);
    assert_eq!(receiver.count("/hook"), 2);
    assert!(!world.hook_row(&hook).await.is_active, "a test switches nothing on");
    assert!(world.take_letters().await.is_empty(), "one letter is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_failures_in_a_row_switch_the_webhook_off_and_a_success_between_them_counts() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer("/hook", Reply::status(500));
    let settings = with(&[("ATELIER_WEBHOOK_SCHEDULE", "10ms")]);
    let _worker = world.worker_with(&["deliveries"], &settings).await;
    world.deliver(&hook, 19).await;
    world.drain().await;
    assert_eq!(world.hook_row(&hook).await.failures, 19);
    receiver.answer("/hook", Reply::status(200));
    let ids = world.deliver(&hook, 1).await;
    world.all_delivered(&ids).await;
    let row = world.hook_row(&hook).await;
    assert_eq!((row.failures, row.is_active), (0, true));

    receiver.answer("/hook", Reply::status(500));
    world.deliver(&hook, 19).await;
    world.drain().await;
    assert!(world.hook_row(&hook).await.is_active);
    // tests that fail are not held against it
    let test = world.insert_deliveries(&hook, "webhook.test", 1).await;
    world.hint_deliveries(&hook.tenant, &test).await;
    world.drain().await;
    assert_eq!(world.hook_row(&hook).await.failures, 19);
    let last = world.deliver(&hook, 1).await[0];
    world.delivered(last).await;
    let row = world.hook_row(&hook).await;
    assert_eq!((row.is_active, row.disabled_reason.as_deref()), (false, Some("failing")));
    assert_eq!(world.take_letters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_says_nothing_in_time_is_asked_again() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    receiver.answer_next("/hook", [Reply::held()]);
    let _worker = worker(&world).await;
    let id = world.deliver(&hook, 1).await[0];
    assert_eq!(world.delivered(id).await.status, JobStatus::Completed);
    let tries = world.tries(id).await;
    assert_eq!(tries.len(), 2);
    assert_eq!((tries[0].status, tries[1].status), (None, Some(200)));
    assert!(tries[0].error.as_deref().unwrap().contains("in time"), "{tries:?}");
    assert!(tries[0].latency_ms >= 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_big_answer_the_beginning_is_kept_and_connections_are_used_again() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    receiver.answer("/big", Reply::status(200).body("é".repeat(4_000_000)));
    receiver.answer("/zero", Reply::status(200).body("a\0b"));
    receiver.answer("/small", Reply::status(200).body("x".repeat(20_000)));
    let _worker = worker(&world).await;
    for (path, kept) in [("/big", "é".repeat(2_048)), ("/zero", "a\u{fffd}b".to_owned()), ("/small", "x".repeat(4_096))]
    {
        let hook = world.hook(&tenant, &receiver.url(path)).await;
        for _ in 0..3 {
            let id = world.deliver(&hook, 1).await[0];
            assert_eq!(world.delivered(id).await.status, JobStatus::Completed);
            assert_eq!(world.tries(id).await[0].answer.as_deref(), Some(kept.as_str()), "{path}");
        }
    }
    let small = receiver.received("/small");
    assert_eq!(small[1].from, small[2].from, "one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_webhook_was_deleted_ends_and_so_does_one_that_is_cancelled() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    let ids = world.insert_deliveries(&hook, "job.completed", 2).await;
    world.cancel(&hook.tenant, ids[1]).await;
    diesel_async::RunQueryDsl::execute(diesel::sql_query("DELETE FROM webhooks"), &mut *world.conn().await)
        .await
        .unwrap();
    let _worker = world.worker_with(&["deliveries"], &SETTINGS).await;
    world.hint_deliveries(&hook.tenant, &ids).await;
    let job = world.delivered(ids[0]).await;
    assert_eq!((job.status, job.error_code.as_deref()), (JobStatus::Failed, Some("webhook_deleted")));
    assert_eq!(world.delivered(ids[1]).await.status, JobStatus::Cancelled);
    assert_eq!(receiver.count("/hook"), 0);
}
