//! Several processes of the API, and a Redis that comes and goes.

use super::{Browser, finish, hears_all_of, pipeline, start};
use harness::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_on_two_servers_hear_the_same() {
    let world = World::new().await;
    let (api, elsewhere) = (world.api().await, world.api().await);
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let colleague = world.colleague(&api, &member, "member").await;
    browser.enter("here", api.address, &member).await;
    browser.enter("there", elsewhere.address, &member).await;
    browser.enter("guest", elsewhere.address, &colleague).await;
    let id = pipeline(&member).await;
    for name in ["here", "there", "guest"] {
        assert_eq!(browser.event(name, "pipeline:created").await["id"], json!(id));
    }
    browser.join("here", &id).await;
    browser.join("guest", &id).await;
    assert_eq!(browser.event("here", "user:joined").await["user_id"], json!(colleague.id()));
    let run = start(&member, &id).await;
    finish(world.take(run).await).await;
    for name in ["here", "there", "guest"] {
        hears_all_of(&mut browser, name, run).await;
    }
    browser.ask("here", "leave:pipeline", json!(id)).await;
    let left = json!({ "user_id": member.id(), "pipeline_id": id });
    assert_eq!(browser.event("guest", "user:left").await, left);
    for name in ["here", "there", "guest"] {
        browser.hears_nothing(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_is_told_to_have_left() {
    let world = World::new().await;
    let (api, elsewhere) = (world.api().await, world.api().await);
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("here", api.address, &member).await;
    browser.join("here", &id).await;
    let mut other = Browser::start().await;
    other.enter("there", elsewhere.address, &member).await;
    other.join("there", &id).await;
    browser.event("here", "user:joined").await;
    other.kill().await;
    let left = json!({ "user_id": member.id(), "pipeline_id": id });
    assert_eq!(browser.event("here", "user:left").await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_sends_its_sockets_to_another_and_says_that_they_left() {
    let world = World::new().await;
    let (api, elsewhere) = (world.api().await, world.api().await);
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("there", elsewhere.address, &member).await;
    browser.join("there", &id).await;
    browser.enter("here", api.address, &member).await;
    browser.join("here", &id).await;
    browser.event("there", "user:joined").await;
    let auth = json!({ "token": member.client.token() });
    browser.open("polling", api.address, json!({ "auth": auth, "transports": ["polling"] })).await;
    assert_eq!(browser.next("polling").await.0, "connect");
    api.running.stop().await;
    for name in ["here", "polling"] {
        let (event, reason) = loop {
            let (event, mut args) = browser.next(name).await;
            if event != "user:left" {
                break (event, args.remove(0));
            }
        };
        assert_eq!(event, "disconnect");
        assert!(reason == "transport close" || reason == "transport error", "it connects again by itself: {reason}");
    }
    let left = json!({ "user_id": member.id(), "pipeline_id": id });
    assert_eq!(browser.event("there", "user:left").await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_redis_in_the_middle_of_a_run_loses_and_doubles_nothing() {
    let world = World::with_own_redis().await;
    let (api, elsewhere) = (world.api().await, world.api().await);
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("here", api.address, &member).await;
    browser.enter("there", elsewhere.address, &member).await;
    let auth = json!({ "token": member.client.token() });
    browser.open("polling", api.address, json!({ "auth": auth, "transports": ["polling"] })).await;
    assert_eq!(browser.next("polling").await.0, "connect");
    let run = start(&member, &id).await;
    let mut hand = world.take(run).await;
    hand.completes("in", "hello").await;
    world.redis_server(|redis| redis.stop());
    hand.node("up", shared::models::StepStatus::Running, json!({})).await;
    world.redis_server(|redis| redis.start_again());
    let metadata = json!({ "model": "gpt-4", "tokens_used": 7, "cost": 0.0015 });
    let found = json!({ "text": "HELLO", "metadata": metadata });
    hand.node("up", shared::models::StepStatus::Completed, found).await;
    hand.complete().await;
    for name in ["here", "there", "polling"] {
        hears_all_of(&mut browser, name, run).await;
        browser.hears_nothing(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_every_run_is_told_all_the_same() {
    let world = World::new().await;
    // nothing listens on port 9 of the loopback
    let api = world.api_with(&[("REDIS_URL", "redis://127.0.0.1:9")]).await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("socket", api.address, &member).await;
    // one that is over before anybody has looked, and one after it
    for _ in 0..2 {
        let run = start(&member, &id).await;
        finish(world.take(run).await).await;
        hears_all_of(&mut browser, "socket", run).await;
    }
    browser.hears_nothing("socket").await;
}
