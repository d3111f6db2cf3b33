//! Pipelines from the request to the result: API, queue, worker and a provider of models, each of them real.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{Api, Fault, LlmPeer, Member, Running, World, eventually, project_root};
use serde_json::{Value, json};
use shared::models::JobStatus;
use uuid::Uuid;

/// An API over a peer's models, and somebody who uses it.
async fn api(world: &World, peer: &LlmPeer) -> (Api, Member) {
    let api = world.api_with(&[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await;
    let member = world.member(&api).await;
    (api, member)
}

async fn worker(world: &World, peer: &LlmPeer) -> Running {
    world.worker_with(&["pipelines"], &[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await
}

/// Nodes of which each takes what the one before it gives; returns the path of the pipeline.
async fn chain(member: &Member, nodes: &[Value]) -> String {
    let ids: Vec<_> = nodes.iter().map(|node| node["id"].as_str().unwrap()).collect();
    let connections: Vec<_> = ids.windows(2).map(|pair| json!({ "source": pair[0], "target": pair[1] })).collect();
    let body = json!({ "name": "Chain", "nodes": nodes, "connections": connections });
    let made = member.client.post("/pipelines", body).await.expect(201);
    format!("/pipelines/{}", made["id"].as_str().unwrap())
}

/// Three questions in a row; each prompt begins with the name of its node.
async fn three_questions(member: &Member) -> String {
    let ask = |id: &str| json!({ "id": id, "type": "llm", "config": { "model": "peer-model", "prompt": format!("{id} asks") } });
    let input = json!({ "id": "in", "type": "input" });
    chain(member, &[input, ask("first"), ask("second"), ask("third")]).await
}

fn body(is_async: bool) -> Value {
    json!({ "inputs": { "in": { "text": "tea" } }, "config": { "async": is_async } })
}

async fn start(member: &Member, pipeline: &str) -> Uuid {
    let started = member.client.post(&format!("{pipeline}/run"), body(true)).await.expect(202);
    assert_eq!(started["status"], "queued");
    assert!(started["estimated_duration"].as_i64().unwrap() >= 1);
    assert!(started["queue_position"].as_i64().unwrap() >= 0);
    started["execution_id"].as_str().unwrap().parse().unwrap()
}

async fn execution(member: &Member, id: Uuid) -> Value {
    member.client.get(&format!("/executions/{id}")).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_at_a_model_goes_on_there_when_it_is_tried_again() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let _worker = worker(&world, &peer).await;
    let pipeline = three_questions(&member).await;

    peer.fail_marked("second asks", 2, Fault::Status(401));
    let refused = member.client.post(&format!("{pipeline}/run"), body(false)).await;
    assert_eq!(refused.error(502), "AI_SERVICE_ERROR");
    let failed = start(&member, &pipeline).await;
    world.wait_for_status(failed, JobStatus::Failed).await;
    let shown = execution(&member, failed).await;
    assert_eq!((&shown["status"], &shown["error"]["node_id"]), (&json!("failed"), &json!("second")));
    assert_eq!(shown["error"]["code"], "AI_SERVICE_ERROR");
    assert_eq!(shown["results"].as_object().unwrap().keys().collect::<Vec<_>>(), ["first"]);
    assert_eq!((peer.received_with("first asks"), peer.received_with("third asks")), (2, 0));

    // the provider takes the key again
    let again = member.client.post(&format!("/executions/{failed}/retry"), json!({})).await.expect(202);
    let again: Uuid = again["execution_id"].as_str().unwrap().parse().unwrap();
    assert_ne!(again, failed);
    world.wait_for_status(again, JobStatus::Completed).await;
    let done = execution(&member, again).await;
    for node in ["first", "second", "third"] {
        assert_eq!(done["results"][node]["text"], LlmPeer::answer(&format!("{node} asks")), "{node}");
    }
    assert_eq!(peer.received_with("first asks"), 2, "what was answered is not asked again");
    assert_eq!(done["node_executions"], 2, "and not counted again");
    let usage = member.client.get("/usage?limit=100").await.expect(200);
    let rows = usage["data"].as_array().unwrap();
    let completed = rows.iter().filter(|row| row["status"] == "completed").count();
    let refused = rows.iter().filter(|row| row["status"] == "failed" && row["total_tokens"] == 0).count();
    assert_eq!((rows.len(), completed, refused), (6, 4, 2), "{usage}");
    let used: i64 = rows.iter().map(|row| row["total_tokens"].as_i64().unwrap()).sum();
    assert_eq!(member.client.get("/ai/usage").await.expect(200)["usage"]["total_tokens"], used);
    let conflict = member.client.post(&format!("/executions/{again}/retry"), json!({})).await;
    assert_eq!(conflict.error(409), "CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_in_whatever_state_it_is() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let pipeline = three_questions(&member).await;
    let cancel = async |id: Uuid| member.client.post(&format!("/executions/{id}/cancel"), json!({})).await;

    // waiting, with nobody there to run it
    let waiting = start(&member, &pipeline).await;
    let answer = cancel(waiting).await.expect(200);
    assert_eq!((&answer["status"], &answer["execution_id"]), (&json!("cancelled"), &json!(waiting)));
    assert_eq!(world.job(waiting).await.status, JobStatus::Cancelled);

    // in the middle of a call, whose connection is closed
    let _worker = worker(&world, &peer).await;
    peer.hold();
    let running = start(&member, &pipeline).await;
    eventually("the call to be under way", async || (peer.open() == 1).then_some(())).await;
    cancel(running).await.expect(200);
    world.wait_for_status(running, JobStatus::Cancelled).await;
    eventually("the call to be given up", async || (peer.open() == 0).then_some(())).await;
    peer.release();

    // parked, because its provider wants a rest
    peer.fail_next([Fault::StatusWith(429, "retry-after", "300".to_owned())]);
    let parked = start(&member, &pipeline).await;
    eventually("the run to be parked", async || {
        let job = world.job(parked).await;
        (job.status == JobStatus::Queued && job.attempt > 0).then_some(())
    })
    .await;
    cancel(parked).await.expect(200);
    assert_eq!(world.job(parked).await.status, JobStatus::Cancelled);

    for ended in [waiting, running, parked] {
        assert_eq!(cancel(ended).await.error(409), "CONFLICT");
        assert_eq!(execution(&member, ended).await["status"], "cancelled");
    }
    world.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_nodes_ask_side_by_side() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let _worker = worker(&world, &peer).await;
    let ask = |id: &str| json!({ "id": id, "type": "llm", "config": { "model": "peer-model", "prompt": id } });
    let nodes = [json!({ "id": "in", "type": "input" }), ask("left"), ask("middle"), ask("right")];
    let connections = ["left", "middle", "right"].map(|target| json!({ "source": "in", "target": target }));
    let body = json!({ "name": "Fan", "nodes": nodes, "connections": connections });
    let made = member.client.post("/pipelines", body).await.expect(201);
    peer.hold();
    let id = start(&member, &format!("/pipelines/{}", made["id"].as_str().unwrap())).await;
    eventually("all three to ask at once", async || (peer.open() == 3).then_some(())).await;
    peer.release();
    world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(execution(&member, id).await["results"].as_object().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_sees_is_sent_the_image_and_describes_it() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let (_api, member) = api(&world, &peer).await;
    let _worker = worker(&world, &peer).await;
    let photo = std::fs::read(project_root().join("tests/images/rocket.jpg")).unwrap();
    let image = json!({ "data": STANDARD.encode(photo), "content_type": "image/jpeg" });
    let input = json!({ "id": "photo", "type": "input", "config": { "input_type": "image" } });
    let run = |config: Value, kind: &str| {
        let node = json!({ "id": "look", "type": kind, "config": config });
        let (member, input, image) = (&member, input.clone(), image.clone());
        async move {
            let pipeline = chain(member, &[input, node]).await;
            let body = json!({ "inputs": { "photo": image }, "config": { "async": false } });
            member.client.post(&format!("{pipeline}/run"), body).await.expect(200)["results"]["look"].clone()
        }
    };
    let images = || {
        let shown =
            |call: &harness::PeerCall| call.body["messages"].to_string().matches("data:image/jpeg;base64,").count();
        peer.calls().iter().map(shown).collect::<Vec<_>>()
    };

    let seen = run(json!({ "model": "peer-model", "prompt": "What is this?" }), "llm").await;
    assert_eq!(seen["text"], LlmPeer::answer("What is this? [image]"), "it was sent the photo");
    assert_eq!(images(), [1]);
    // without a model it is the sentence made of what our own models found
    let found = run(json!({}), "image_analysis").await;
    assert_eq!(images().len(), 1, "{found}");
    let described = run(json!({ "describe": { "model": "peer-model" } }), "image_analysis").await;
    assert_eq!(images(), [1, 1]);
    assert_ne!(found["text"], described["text"]);
    assert!(described["text"].as_str().unwrap().starts_with("answer to: "), "{described}");
}
