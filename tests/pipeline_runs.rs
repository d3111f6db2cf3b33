//! Pipelines on real workers: what runs beside what, what is skipped, what happens when a node fails, waits, or its worker
//! dies.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use base64::Engine;
use diesel::QueryDsl;
use harness::{Tenant, World, assert_whole, eventually, project_root};
use serde_json::{Value, json};
use shared::{
    events::{Change, LogLevel},
    models::{Execution, Job, JobStatus, JobStep, NewExecution, StepStatus},
    pipeline::normalized,
    schema::object_deletions,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use uuid::Uuid;

/// Accepts a run as the API does: its rows, then a push.
pub(crate) async fn start(world: &World, tenant: &Tenant, nodes: Value, connections: Value, inputs: Value) -> Uuid {
    start_again(world, tenant, (nodes, connections, inputs), None).await
}

async fn start_again(world: &World, tenant: &Tenant, run: (Value, Value, Value), retry_of: Option<Uuid>) -> Uuid {
    let (nodes, connections) = normalized(&run.0, &run.1);
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: tenant.user,
        organization_id: tenant.organization,
        weight: tenant.weight,
        pipeline_id: Uuid::now_v7(),
        pipeline_name: "Test".to_owned(),
        nodes,
        connections,
        inputs: run.2,
        webhook_url: None,
        webhook_secret: None,
        awaited: false,
        retry_of,
        tick: None,
        cost_limit_nanos: None,
        token_limit: None,
    };
    let started = Execution::start(&mut *world.conn().await, new).await.unwrap();
    world.queue("pipelines").push(&[started.ticket]).await.unwrap();
    started.job.id
}

pub(crate) fn node(id: &str, kind: &str, config: Value) -> Value {
    json!({ "id": id, "type": kind, "config": config })
}

pub(crate) fn edge(source: &str, target: &str) -> Value {
    json!({ "source": source, "target": target })
}

fn branch(source: &str, handle: &str, target: &str) -> Value {
    json!({ "source": source, "target": target, "source_handle": handle })
}

pub(crate) fn step<'s>(steps: &'s [JobStep], name: &str) -> &'s JobStep {
    steps.iter().find(|step| step.name == name).unwrap()
}

pub(crate) fn text(job: &Job, output: &str) -> String {
    job.result.as_ref().unwrap()["outputs"][output]["text"].as_str().unwrap().to_owned()
}

/// A server that answers every request with this, and counts them.
struct Peer {
    url: String,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    async fn new(status: &'static str, body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 16 * 1024];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
                assert!(head.contains("idempotency-key: "), "{head}");
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, asked, _tasks: tasks }
    }
}

const PRIVATE: &[(&str, &str)] = &[("ATELIER_HTTP_ALLOW_PRIVATE", "on")];

#[tokio::test(flavor = "multi_thread")]
async fn branches_run_and_merge_in_the_order_of_the_connections() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let nodes = json!([
        node("node-1", "input", json!({ "inputType": "text" })),
        node("up", "transform", json!({ "operation": "upper" })),
        node("say", "prompt", json!({ "template": "<{{ input }}|{{ node-1 }}|{{ nodes[\"node-1\"].text }}>" })),
        node("both", "merge", json!({ "separator": "+" })),
        node("out", "output", json!({ "name": "answer" })),
    ]);
    let connections = json!([
        edge("node-1", "up"),
        edge("node-1", "say"),
        edge("say", "both"),
        edge("up", "both"),
        edge("both", "out")
    ]);
    let id = start(&world, &tenant, nodes, connections, json!({ "node-1": { "text": "tea" } })).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "answer"), "<tea|tea|tea>+TEA");
    assert_eq!(job.result.as_ref().unwrap()["node_executions"], 5);
    let events = world.events(id).await;
    assert_whole(&events, JobStatus::Completed);
    assert_eq!(events[0].body.change, Change::JobStarted);
    assert_eq!(events.last().unwrap().body.progress.completed, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_branch_not_taken_is_skipped() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let nodes = json!([
        node("in", "input", json!({ "input_type": "json" })),
        node("rich", "condition", json!({ "path": "$.price", "operator": "gt", "value": 10 })),
        node("yes", "prompt", json!({ "template": "dear" })),
        node("no", "prompt", json!({ "template": "cheap" })),
        node("later", "transform", json!({ "operation": "upper" })),
        node("end", "merge", json!({})),
    ]);
    let connections = json!([
        edge("in", "rich"),
        branch("rich", "true", "yes"),
        branch("rich", "false", "no"),
        edge("no", "later"),
        edge("yes", "end"),
        edge("later", "end")
    ]);
    let id = start(&world, &tenant, nodes, connections, json!({ "in": { "value": { "price": 12 } } })).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "end"), "dear");
    let steps = world.steps(id).await;
    for skipped in ["no", "later"] {
        assert_eq!(step(&steps, skipped).status, StepStatus::Skipped, "{skipped}");
    }
    let progress = world.events(id).await.last().unwrap().body.progress;
    assert_eq!((progress.completed, progress.total), (6, 6), "what is skipped has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_runs_for_each_entry_of_a_list() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let chain = json!([
        node("say", "prompt", json!({ "template": "{{ index }}:{{ item.name }}" })),
        node("up", "transform", json!({ "operation": "upper" })),
    ]);
    let nodes = json!([
        node("in", "input", json!({ "input_type": "json" })),
        node("each", "map", json!({ "items": "$.list", "nodes": chain, "connections": [edge("say", "up")] })),
    ]);
    let list = json!({ "in": { "value": { "list": [{ "name": "a" }, { "name": "b" }, { "name": "c" }] } } });
    let id = start(&world, &tenant, nodes, json!([edge("in", "each")]), list).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "each"), r#"["0:A","1:B","2:C"]"#);
    let steps = world.steps(id).await;
    assert_eq!(step(&steps, "each[1]/up").position, -1);
    let progress = world.events(id).await.last().unwrap().body.progress;
    assert_eq!((progress.completed, progress.total), (2, 2), "parts of a node are no nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_waits_goes_on_in_the_same_attempt_and_repeats_nothing() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker_with(&["pipelines"], PRIVATE).await;
    let peer = Peer::new("200 OK", "\"tea\"".to_owned()).await;
    let chain =
        json!([node("ask", "http", json!({ "url": peer.url })), node("wait", "delay", json!({ "seconds": 1 })),]);
    let nodes = json!([
        node("in", "input", json!({ "input_type": "json" })),
        node("each", "map", json!({ "nodes": chain, "connections": [edge("ask", "wait")] })),
    ]);
    let list = json!({ "in": { "value": ["a", "b"] } });
    let id = start(&world, &tenant, nodes, json!([edge("in", "each")]), list).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.attempt, peer.asked.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(job.result.unwrap()["node_executions"], 6, "each of six nodes once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_node_fails_the_run_unless_it_is_to_be_passed_over() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let nodes = |on_error: Value| {
        json!([
            node("in", "input", json!({ "default_value": "no json" })),
            node("parse", "transform", json!({ "operation": "parse_json", "onError": on_error })),
            node("out", "output", json!({ "template": "[{{ parse }}]" })),
        ])
    };
    let connections = json!([edge("in", "parse"), edge("parse", "out")]);
    let id = start(&world, &tenant, nodes(json!("fail")), connections.clone(), json!({})).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(job.error_code.as_deref(), Some("node_failed"));
    assert_eq!(job.error_message.as_deref(), Some("The node parse failed: Its input is no JSON."));
    assert_eq!(job.attempt, 1);
    let execution = Execution::get(&mut *world.conn().await, id).await.unwrap();
    assert_eq!((execution.error_node_id.as_deref(), execution.node_executions), (Some("parse"), 1));
    let steps = world.steps(id).await;
    assert_eq!(step(&steps, "parse").status, StepStatus::Failed);
    assert_eq!(step(&steps, "out").status, StepStatus::Pending);
    for (on_error, expected) in [(json!("continue"), "[]"), (json!({ "default": "x" }), "[x]")] {
        let id = start(&world, &tenant, nodes(on_error), connections.clone(), json!({})).await;
        let job = world.wait_for_status(id, JobStatus::Completed).await;
        assert_eq!(text(&job, "out"), expected);
        assert_eq!(step(&world.steps(id).await, "parse").result["error"]["code"], "node_failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_run_says_which_node_is_to_blame() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let id = start(&world, &tenant, json!([node("call", "http", json!({}))]), json!([]), json!({})).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(job.error_code.as_deref(), Some("pipeline_invalid"));
    assert_eq!(job.result.unwrap()["node_id"], "call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_tried_as_often_as_it_says_and_a_slow_one_is_cut_off() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker_with(&["pipelines"], PRIVATE).await;
    let broken = Peer::new("503 Service Unavailable", "{}".to_owned()).await;
    let config = json!({ "url": broken.url, "retry": { "attempts": 3, "backoffMs": 1 } });
    let id = start(&world, &tenant, json!([node("call", "http", config)]), json!([]), json!({})).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(broken.asked.load(Ordering::SeqCst), 3);
    assert_eq!(job.error_code.as_deref(), Some("node_failed"));
    let warnings = world
        .events(id)
        .await
        .into_iter()
        .filter(|event| matches!(event.body.change, Change::Log { level: LogLevel::Warn, .. }))
        .count();
    assert_eq!(warnings, 2);

    // accepts and never answers
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let config = json!({ "url": url, "timeout_seconds": 1 });
    let id = start(&world, &tenant, json!([node("call", "http", config)]), json!([]), json!({})).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!(job.attempt, 1);
    assert_eq!(job.error_code.as_deref(), Some("node_timeout"));
    assert!(job.error_message.unwrap().starts_with("The node call failed: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_reaches_private_addresses_only_where_that_is_allowed() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let peer = Peer::new("200 OK", json!({ "name": "tea" }).to_string()).await;
    let nodes = json!([
        node("call", "http", json!({ "url": peer.url, "body": "{\"a\": 1}" })),
        node("name", "transform", json!({ "operation": "json_path", "path": "$.name" })),
    ]);
    let connections = json!([edge("call", "name")]);
    let careful = world.worker(&["pipelines"]).await;
    let id = start(&world, &tenant, nodes.clone(), connections.clone(), json!({})).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert!(job.error_message.unwrap().contains("private address"));
    assert_eq!(peer.asked.load(Ordering::SeqCst), 0);
    careful.stop().await;
    let _worker = world.worker_with(&["pipelines"], PRIVATE).await;
    let id = start_again(&world, &tenant, (nodes, connections, json!({})), Some(id)).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "name"), "tea");
    assert_eq!(peer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_goes_through_the_object_store() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let nodes = json!([
        node("in", "input", json!({})),
        node("copy", "transform", json!({ "operation": "trim" })),
        node("parse", "transform", json!({ "operation": "parse_json" })),
    ]);
    let connections = json!([edge("in", "copy"), edge("copy", "parse")]);
    let long = "x".repeat(100_000);
    let run = (nodes, connections, json!({ "in": { "text": long } }));
    // it fails at the end, so that the next run takes the large output over
    let id = start_again(&world, &tenant, run.clone(), None).await;
    world.wait_for_status(id, JobStatus::Failed).await;
    let steps = world.steps(id).await;
    let copy = &step(&steps, "copy").result;
    assert_eq!(copy["object"], shared::storage::node_output_key(id, "copy"));
    assert_eq!(copy["preview"].as_str().unwrap().len(), 4096);
    assert!(copy["bytes"].as_u64().unwrap() > 100_000 && copy.get("text").is_none());
    let mut run = run;
    run.0[2]["config"]["operation"] = json!("length");
    let again = start_again(&world, &tenant, run, Some(id)).await;
    let job = world.wait_for_status(again, JobStatus::Completed).await;
    assert_eq!(text(&job, "parse"), "100000");
    assert_eq!(step(&world.steps(again).await, "copy").attempt, 0, "what was finished is not run again");

    let mut conn = world.conn().await;
    let after = chrono::Utc::now() + chrono::TimeDelta::days(1);
    assert_eq!(Job::prune(&mut conn, after, 10).await.unwrap(), 1, "what is still in use stays");
    assert_eq!(Job::prune(&mut conn, after, 10).await.unwrap(), 1);
    let keys = object_deletions::table.select(object_deletions::key);
    let noted: Vec<String> = diesel_async::RunQueryDsl::load(keys, &mut conn).await.unwrap();
    assert!(noted.contains(&shared::storage::node_output_key(id, "copy")), "{noted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_only_waits_gives_its_job_back_and_is_not_charged() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let nodes = json!([
        node("in", "input", json!({ "value": "x" })),
        node("wait", "delay", json!({ "seconds": 4 })),
        node("out", "output", json!({})),
    ]);
    let id = start(&world, &tenant, nodes, json!([edge("in", "wait"), edge("wait", "out")]), json!({})).await;
    let parked = eventually("the run to be given back", async || {
        let job = world.job(id).await;
        (job.status == JobStatus::Queued && job.attempt == 1).then_some(job)
    })
    .await;
    assert_eq!(parked.charged_attempts(), 0);
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.charged_attempts(), 1);
    assert_eq!(text(&job, "out"), "x");
    let steps = world.steps(id).await;
    let waited = step(&steps, "wait").duration_ms.unwrap();
    assert!(waited >= 4_000, "counted from its first beginning, {waited} ms");
    let begun = world.events(id).await.iter().filter(|event| begins(&event.body.change, "wait")).count();
    assert_eq!(begun, 1);
}

fn begins(change: &Change, name: &str) -> bool {
    match change {
        Change::StepUpdate { step, status, .. } => step == name && *status == StepStatus::Running,
        Change::JobStarted | Change::Log { .. } | Change::JobFinished { .. } => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_comes_with_a_run_is_looked_at() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["pipelines"]).await;
    let photo = std::fs::read(project_root().join("tests/images/rocket.jpg")).unwrap();
    let data = base64::engine::general_purpose::STANDARD.encode(photo);
    let nodes = json!([
        node("photo", "input", json!({ "input_type": "image" })),
        node("look", "image_analysis", json!({})),
        node(
            "label",
            "transform",
            json!({ "operation": "json_path", "path": "$.classification.classification_label" })
        ),
    ]);
    let inputs = json!({ "photo": { "data": data, "content_type": "image/jpeg" } });
    let id = start(&world, &tenant, nodes, json!([edge("photo", "look"), edge("look", "label")]), inputs).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert!(!text(&job, "label").is_empty());
    let steps = world.steps(id).await;
    let look = &step(&steps, "look").result;
    assert!(look["text"].as_str().unwrap().contains("main colour"), "{look}");
    assert_eq!(look["metadata"]["description_model"], "template");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_is_killed_goes_on_where_it_was() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let first = Peer::new("200 OK", "\"one\"".to_owned()).await;
    // says nothing until the worker is dead
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = format!("http://{}/", silent.local_addr().unwrap());
    let nodes = json!([
        node("first", "http", json!({ "url": first.url })),
        node("second", "http", json!({ "url": second })),
        node("out", "output", json!({ "template": "{{ first }} {{ second }}" })),
    ]);
    let mut process = world.process(&["worker", "--pool", "pipelines"], PRIVATE);
    let id = start(&world, &tenant, nodes, json!([edge("first", "second"), edge("second", "out")]), json!({})).await;
    let (held, _) = silent.accept().await.unwrap();
    process.kill();
    drop(held);
    let mut answers = JoinSet::new();
    answers.spawn(async move {
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo").await.unwrap();
    });
    let _worker = world.worker_with(&["pipelines"], PRIVATE).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(text(&job, "out"), "\"one\" two");
    assert_eq!(first.asked.load(Ordering::SeqCst), 1, "what was finished is not asked again");
    assert_eq!(job.attempt, 2);
    assert_whole(&world.events(id).await, JobStatus::Completed);
}
