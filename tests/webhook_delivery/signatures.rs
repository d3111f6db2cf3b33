//! What a receiver gets, checked with the library that receivers use.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use super::worker;
use harness::{Received, Receiver, World};
use shared::models::JobStatus;
use standardwebhooks::Webhook;

fn verifies(secret: &str, received: &Received) -> bool {
    Webhook::new(secret).unwrap().verify(&received.body, &received.headers).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_verified_by_the_official_library() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook?a=b")).await;
    let _worker = worker(&world).await;
    let id = world.deliver(&hook, 1).await[0];
    let job = world.delivered(id).await;
    assert_eq!((job.status, job.attempt, job.result), (JobStatus::Completed, 1, None));
    let [received] = &receiver.received("/hook?a=b")[..] else { panic!("it came once") };
    assert!(verifies(&hook.secret, received));
    assert!(!verifies("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", received));
    assert_eq!(received.id(), id);
    assert_eq!(received.header("user-agent"), "Atelier-Webhooks/1.0");
    assert_eq!(received.header("content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body["id"], id.to_string());
    assert_eq!(body["data"]["text"], "grün ☃");
    let tries = world.tries(id).await;
    assert_eq!((tries.len(), tries[0].status, tries[0].error.as_deref()), (1, Some(200), None));
    assert!(world.hook_row(&hook).await.last_delivery_at.is_some());
    assert!(world.events(id).await.is_empty(), "nobody listens to a delivery");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_rotates_both_secrets_verify_and_afterwards_the_new_one_only() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    let old = "whsec_T2xkIHNlY3JldCBvZiBhIHdlYmhvb2s=";
    let _worker = worker(&world).await;
    for (until, signatures) in [("now() + interval '1 hour'", 2), ("now() - interval '1 second'", 1)] {
        world.change_hook(&hook, &format!("previous_secret = '{old}', previous_secret_until = {until}")).await;
        let ids = world.deliver(&hook, 1).await;
        world.all_delivered(&ids).await;
        let received = receiver.received("/hook").pop().unwrap();
        assert_eq!(received.header("webhook-signature").split(' ').count(), signatures);
        assert!(verifies(&hook.secret, &received));
        assert_eq!(verifies(old, &received), signatures == 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_another_form_signs_with_its_bytes() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let hook = world.hook(&world.tenant(1).await, &receiver.url("/hook")).await;
    world.change_hook(&hook, "secret = 'my own words'").await;
    let _worker = worker(&world).await;
    let ids = world.deliver(&hook, 1).await;
    world.all_delivered(&ids).await;
    let received = &receiver.received("/hook")[0];
    let library = Webhook::from_bytes(b"my own words".to_vec()).unwrap();
    library.verify(&received.body, &received.headers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_of_a_run_is_signed_only_if_the_run_brought_a_secret() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let tenant = world.tenant(1).await;
    let secret = "whsec_Q2FsbCBiYWNrIG9mIGEgcnVu";
    let signed = world.insert_call_back(&tenant, &receiver.url("/signed"), Some(secret)).await;
    let plain = world.insert_call_back(&tenant, &receiver.url("/plain"), None).await;
    let _worker = worker(&world).await;
    world.hint_deliveries(&tenant, &[signed, plain]).await;
    world.all_delivered(&[signed, plain]).await;
    assert!(verifies(secret, &receiver.received("/signed")[0]));
    assert_eq!(receiver.received("/plain")[0].header("webhook-signature"), "");
    assert_eq!(receiver.received("/plain")[0].id(), plain);
    assert_eq!(world.count_tries(&[signed, plain]).await, 2);
}
