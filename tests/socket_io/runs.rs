//! The events of runs.

use super::{Browser, finish, hears_all_of, pipeline, start};
use harness::World;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_hears_a_whole_run() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    let auth = json!({ "token": format!("Bearer {}", member.client.token()) });
    let ways = [("polling", json!(["polling"])), ("websocket", json!(["websocket"])), ("both", Value::Null)];
    for (name, transports) in &ways {
        let mut options = json!({ "auth": auth });
        if !transports.is_null() {
            options["transports"] = transports.clone();
        }
        browser.open(name, api.address, options).await;
    }
    for name in ["polling", "websocket"] {
        assert_eq!(browser.next(name).await, ("connect".to_owned(), vec![json!(name)]));
    }
    let came = [browser.next("both").await.0, browser.next("both").await.0];
    assert!(came.contains(&"connect".to_owned()) && came.contains(&"upgrade".to_owned()), "{came:?}");

    let run = start(&member, &id).await;
    finish(world.take(run).await).await;
    for (name, _) in &ways {
        let heard = hears_all_of(&mut browser, name, run).await;
        let (_, started) = &heard[0];
        assert_eq!(started["pipeline_id"], json!(id));
        assert!(started["started_at"].is_string());
        let (_, progress) = &heard[2];
        assert_eq!((&progress["progress"], &progress["message"]), (&json!(0.5), &json!("Node in completed")));
        let (_, completed) = &heard[5];
        assert_eq!(completed["status"], "completed");
        assert!(completed["duration"].is_i64() && completed["completed_at"].is_string());
    }
    for (name, _) in &ways {
        browser.hears_nothing(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_or_is_cancelled_says_why() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("socket", api.address, &member).await;
    let run = start(&member, &id).await;
    let mut hand = world.take(run).await;
    hand.completes("in", "hello").await;
    hand.log("up", "not so loud").await;
    hand.fail("up", "node_failed", "too loud").await;
    let heard = browser.until("socket", "execution:failed").await;
    assert!(heard.iter().all(|(name, _)| name != "execution:log"), "logs are for those who follow one run: {heard:?}");
    let (_, failed) = heard.last().unwrap();
    assert_eq!((&failed["id"], &failed["error"]["node_id"]), (&json!(run), &json!("up")));
    assert_eq!(failed["error"]["message"], "too loud");
    assert!(failed["error"]["code"].is_string() && failed["failed_at"].is_string());

    let again = member.client.post(&format!("/executions/{run}/retry"), json!({})).await.expect(202);
    let again = &again["execution_id"];
    member.client.post(&format!("/executions/{}/cancel", again.as_str().unwrap()), json!({})).await.expect(200);
    let failed = browser.event("socket", "execution:failed").await;
    assert_eq!((&failed["id"], &failed["status"]), (again, &json!("cancelled")));
    assert_eq!(failed["error"]["code"], "CONFLICT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_a_run_is_under_way_hears_it_from_its_beginning() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let colleague = world.colleague(&api, &member, "viewer").await;
    let id = pipeline(&member).await;
    browser.enter("early", api.address, &member).await;
    let run = start(&member, &id).await;
    let mut hand = world.take(run).await;
    hand.completes("in", "hello").await;
    // all of it so far was told
    for _ in 0..3 {
        browser.next("early").await;
    }
    browser.enter("late", api.address, &member).await;
    browser.enter("guest", api.address, &colleague).await;
    browser.join("early", &id).await;
    browser.join("guest", &id).await;
    browser.event("early", "user:joined").await;
    hand.completes("up", "HELLO").await;
    hand.complete().await;
    for name in ["late", "guest"] {
        hears_all_of(&mut browser, name, run).await;
    }
    let rest = browser.until("early", "execution:completed").await;
    assert_eq!(rest.len(), 3, "nothing is told twice, also not to who joins the room: {rest:?}");

    // what has ended before is not told to who comes now
    browser.enter("too late", api.address, &member).await;
    browser.join("too late", &id).await;
    browser.hears_nothing("too late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_run_is_told_like_any_other() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("socket", api.address, &member).await;
    let body = json!({ "cron": "0 0 1 1 *", "inputs": { "in": { "text": "hello" } } });
    member.client.post(&format!("/pipelines/{id}/schedules"), body).await.expect(201);
    world.run_sql("UPDATE pipeline_schedules SET next_run_at = now()").await;
    let scheduler = world.scheduler().await;
    let hand = world.take_next(member.organization_id()).await;
    let run = hand.job.id;
    finish(hand).await;
    hears_all_of(&mut browser, "socket", run).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_worker_is_heard_too() {
    let world = World::new().await;
    let api = world.api().await;
    let worker = world.worker(&["pipelines"]).await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let id = pipeline(&member).await;
    browser.enter("socket", api.address, &member).await;
    let run = start(&member, &id).await;
    let heard = browser.until("socket", "execution:completed").await;
    assert_eq!(heard[0].0, "execution:started");
    assert!(heard.iter().all(|(_, data)| data["id"] == json!(run)));
    for node in ["in", "up"] {
        assert!(heard.iter().any(|(name, data)| name == "execution:progress" && data["node_id"] == node), "{heard:?}");
    }
    worker.stop().await;
}
