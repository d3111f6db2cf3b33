//! Socket.IO with its own client library: who is let in, rooms, and that every event reaches everybody concerned once
//! and in order, whatever happens to Redis and to processes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at a broken assumption")]

mod browser;
mod doors;
mod protocol;
mod replicas;
mod rooms;
mod runs;

use browser::Browser;
use harness::{Hand, Member};
use serde_json::{Value, json};
use shared::models::StepStatus;
use uuid::Uuid;

/// Text in, upper case out; returns its id.
async fn pipeline(member: &Member) -> String {
    let body = json!({
        "name": "Shout",
        "nodes": [
            { "id": "in", "type": "input" },
            { "id": "up", "type": "transform", "config": { "operation": "upper" } },
        ],
        "connections": [{ "source": "in", "target": "up" }],
    });
    let made = member.client.post("/pipelines", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn start(member: &Member, pipeline: &str) -> Uuid {
    let body = json!({ "inputs": { "in": { "text": "hello" } } });
    let accepted = member.client.post(&format!("/pipelines/{pipeline}/run"), body).await.expect(202);
    accepted["execution_id"].as_str().unwrap().parse().unwrap()
}

/// Both nodes, and the end.
async fn finish(mut hand: Hand<'_>) {
    hand.completes("in", "hello").await;
    hand.completes("up", "HELLO").await;
    hand.complete().await;
}

/// A socket hears the whole of a run with these two nodes, each event once and in order.
async fn hears_all_of(browser: &mut Browser, name: &str, run: Uuid) -> Vec<(String, Value)> {
    let heard = browser.until(name, "execution:completed").await;
    let names: Vec<_> = heard.iter().map(|(name, _)| name.strip_prefix("execution:").unwrap()).collect();
    assert_eq!(names, ["started", "progress", "progress", "progress", "progress", "completed"]);
    assert!(heard.iter().all(|(_, data)| data["id"] == json!(run)));
    assert!(heard.is_sorted_by_key(|(_, data)| data["seq"].as_i64().unwrap()));
    let nodes: Vec<_> = heard[1..5].iter().map(|(_, data)| (&data["node_id"], &data["status"])).collect();
    let (running, completed) = (json!(StepStatus::Running), json!(StepStatus::Completed));
    let (one, two) = (json!("in"), json!("up"));
    assert_eq!(nodes, [(&one, &running), (&one, &completed), (&two, &running), (&two, &completed)]);
    heard
}
