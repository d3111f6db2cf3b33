//! Pipelines whose nodes ask language models: what they answer, what it costs, and that no answer is asked for twice.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use crate::pipeline_runs::{edge, node, start, step, text};
use harness::{Fault, LlmPeer, Running, World, assert_whole, eventually};
use serde_json::{Value, json};
use shared::models::{Execution, JobStatus};

async fn worker(world: &World, peer: &LlmPeer) -> Running {
    world.worker_with(&["pipelines"], &[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await
}

/// Two questions, the second about the answer to the first.
fn two_questions(settings: Value) -> (Value, Value, Value) {
    let mut first = json!({ "model": "peer-model", "prompt": "first {{ in }}" });
    first.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let nodes = json!([
        node("in", "input", json!({})),
        node("first", "openai", first),
        node("second", "llm", json!({ "model": "peer-model", "systemPrompt": "be brief", "prompt": "second" })),
        node("out", "output", json!({ "template": "{{ first }} / {{ second }}" })),
    ]);
    let connections = json!([edge("in", "first"), edge("first", "second"), edge("second", "out")]);
    (nodes, connections, json!({ "in": { "text": "tea" } }))
}

#[tokio::test(flavor = "multi_thread")]
async fn models_answer_nodes_and_what_they_cost_is_counted() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let (nodes, connections, inputs) = two_questions(json!({}));
    let id = start(&world, &tenant, nodes, connections, inputs).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    let expected = format!("{} / {}", LlmPeer::answer("first tea"), LlmPeer::answer("second"));
    assert_eq!(text(&job, "out"), expected);
    let steps = world.steps(id).await;
    let metadata = &step(&steps, "first").result["metadata"];
    assert_eq!(
        (&metadata["model"], &metadata["provider"], &metadata["local"]),
        (&json!("peer-model"), &json!("peer"), &json!(false))
    );
    let execution = Execution::get(&mut *world.conn().await, id).await.unwrap();
    let tokens = |name: &str| step(&steps, name).result["metadata"]["tokens_used"].as_i64().unwrap();
    assert_eq!(execution.tokens_used, tokens("first") + tokens("second"));
    assert!(execution.cost_nanos > 0);
    assert_eq!(job.result.unwrap()["tokens_used"], execution.tokens_used);
    assert_eq!(peer.received(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_for_rest_costs_no_attempt() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_next([Fault::StatusWith(429, "retry-after", "3".to_owned())]);
    let (nodes, connections, inputs) = two_questions(json!({}));
    let id = start(&world, &tenant, nodes, connections, inputs).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.charged_attempts(), 1);
    assert!(job.attempt > 1, "it was given back while it waited");
    assert_eq!(peer.received(), 3);
    assert_whole(&world.events(id).await, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_answer_fails_the_run_or_is_passed_over() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_marked("first", 1_000, Fault::Status(400));
    let (nodes, connections, inputs) = two_questions(json!({}));
    let id = start(&world, &tenant, nodes, connections, inputs).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(job.result.unwrap()["node_id"], "first");
    assert!(job.error_message.unwrap().starts_with("The node first failed: "));
    let (nodes, connections, inputs) = two_questions(json!({ "on_error": { "default": "nothing" } }));
    let id = start(&world, &tenant, nodes, connections, inputs).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "out"), format!("nothing / {}", LlmPeer::answer("second")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_asked_for_again_when_the_worker_dies() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let file = world.llm_file(&peer);
    let mut process = world.process(&["worker", "--pool", "pipelines"], &[("ATELIER_LLM_FILE", &file)]);
    peer.fail_marked("second", 1, Fault::Hang);
    let (nodes, connections, inputs) = two_questions(json!({}));
    let id = start(&world, &tenant, nodes, connections, inputs).await;
    eventually("the second call", async || (peer.received_with("second") == 1).then_some(())).await;
    process.kill();
    let _worker = worker(&world, &peer).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "out"), format!("{} / {}", LlmPeer::answer("first tea"), LlmPeer::answer("second")));
    assert_eq!((peer.received_with("first"), peer.completed_with("second")), (1, 1));
    assert_whole(&world.events(id).await, JobStatus::Completed);
}
