//! Running pipelines and watching them. The worker's part is played by hand, so that each state can be looked at.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use bytes::Bytes;
use futures_util::StreamExt;
use harness::{Answer, Member, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    config::{ObjectStore, Reader},
    models::{JobStatus, StepStatus},
    storage::Storage,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

/// Text in, upper case out; returns its path.
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
    format!("/pipelines/{}", made["id"].as_str().unwrap())
}

fn inputs() -> Value {
    json!({ "in": { "text": "hello" } })
}

async fn start(member: &Member, pipeline: &str) -> Uuid {
    let body = json!({ "inputs": inputs() });
    let accepted = member.client.post(&format!("{pipeline}/run"), body).await.expect(202);
    accepted["execution_id"].as_str().unwrap().parse().unwrap()
}

async fn show(member: &Member, id: Uuid) -> Value {
    member.client.get(&format!("/executions/{id}")).await.expect(200)
}

async fn cancel(member: &Member, id: Uuid) -> Answer {
    member.client.post(&format!("/executions/{id}/cancel"), json!({})).await
}

#[derive(Debug, PartialEq)]
struct Sent {
    name: String,
    id: String,
    data: Value,
}

/// The events in the text of a stream; comments are passed over.
fn events(text: &str) -> Vec<Sent> {
    let blocks = text.split("\n\n").filter(|block| block.lines().any(|line| !line.starts_with(':')));
    blocks
        .map(|block| {
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
            };
            Sent {
                name: field("event").to_owned(),
                id: field("id").to_owned(),
                data: serde_json::from_str(field("data")).unwrap(),
            }
        })
        .collect()
}

fn names(events: &[Sent]) -> Vec<&str> {
    events.iter().map(|event| event.name.strip_prefix("execution:").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_accepted_and_says_how_many_are_ahead_of_it() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let mut runs = Vec::new();
    for ahead in 0..3 {
        let config = json!({ "async": true, "webhook_url": "https://example.com/hook", "webhook_secret": "s" });
        let body = json!({ "inputs": inputs(), "config": config });
        let accepted = member.client.post(&format!("{pipeline}/run"), body).await.expect(202);
        assert_eq!((&accepted["status"], &accepted["queue_position"]), (&json!("queued"), &json!(ahead)));
        assert_eq!(accepted["webhook_url"], "https://example.com/hook");
        assert!(accepted["estimated_duration"].as_i64().unwrap() >= 1);
        runs.push(accepted["execution_id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    let queued = show(&member, runs[0]).await;
    assert_eq!((&queued["status"], &queued["inputs"]), (&json!("queued"), &inputs()));
    assert_eq!((&queued["logs"], &queued["results"]), (&json!([]), &json!({})));
    assert_eq!(
        (&queued["started_at"], &queued["duration"], &queued["error"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(queued["webhook_url"], "https://example.com/hook");
    assert!(!queued.to_string().contains("webhook_secret"), "a secret is not shown");
    let shown = member.client.get(&pipeline).await.expect(200);
    let latest: Vec<_> =
        shown["executions"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(latest, runs.iter().rev().map(Uuid::to_string).collect::<Vec<_>>());
    assert!(!shown["last_executed"].is_null());
    for run in runs {
        cancel(&member, run).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_estimate_is_the_middle_of_what_runs_of_this_pipeline_took() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (known, unknown) = (pipeline(&member).await, pipeline(&member).await);
    for seconds in [10, 20, 600] {
        let run = start(&member, &known).await;
        world.take(run).await.complete().await;
        world
            .run_sql(&format!(
                "UPDATE jobs SET started_at = finished_at - interval '{seconds} seconds' WHERE id = '{run}'"
            ))
            .await;
    }
    // what was told a moment ago is remembered by the process that told it
    let fresh = world.api().await;
    let client = world.client(&fresh).with_token(member.client.token());
    for path in [&known, &unknown] {
        let accepted = client.post(&format!("{path}/run"), json!({ "inputs": inputs() })).await.expect(202);
        assert_eq!(accepted["estimated_duration"], 20, "a pipeline that never ran is judged by its organization");
        cancel(&member, accepted["execution_id"].as_str().unwrap().parse().unwrap()).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_run_is_refused_with_every_reason() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let run = format!("{pipeline}/run");
    let wrong = json!({ "inputs": { "out": 1 }, "config": { "webhook_url": "http://169.254.169.254/" } });
    let answer = member.client.post(&run, wrong).await;
    assert_eq!(fields(&answer), BTreeSet::from(["inputs.in", "inputs.out", "config.webhook_url"]));
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    for (config, field) in [
        (json!({ "async": "no" }), "config.async"),
        (json!({ "webhook_url": "ftp://example.com" }), "config.webhook_url"),
        (json!({ "webhook_url": "http://localhost/" }), "config.webhook_url"),
        (json!({ "webhook_secret": "" }), "config.webhook_secret"),
        (json!({ "budget": { "cost": -1 } }), "config.budget.cost"),
        (json!({ "budget": { "tokens": 1.5 } }), "config.budget.tokens"),
        (json!([true]), "config"),
    ] {
        let answer = member.client.post(&run, json!({ "inputs": inputs(), "config": config })).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{}", answer.text);
        answer.error(400);
    }
    member.client.patch(&pipeline, json!({ "status": "archived" })).await.expect(200);
    assert_eq!(member.client.post(&run, json!({ "inputs": inputs() })).await.error(409), "CONFLICT");
    assert_eq!(member.client.get("/executions").await.expect(200)["pagination"]["total"], 0);

    let open = world.api_with(&[("ATELIER_WEBHOOK_ALLOW_PRIVATE", "on")]).await;
    let client = world.client(&open).with_token(member.client.token());
    client.patch(&pipeline, json!({ "status": "published" })).await.expect(200);
    let config = json!({ "webhook_url": "http://127.0.0.1:9999/", "budget": { "cost": 0.25, "tokens": 1000 } });
    let accepted = client.post(&run, json!({ "inputs": inputs(), "config": config })).await.expect(202);
    let id = accepted["execution_id"].as_str().unwrap().parse().unwrap();
    let limits = shared::models::Execution::find_limits(&mut *world.conn().await, id).await.unwrap();
    assert_eq!(limits, (Some(1_000), Some(250_000_000)));
    cancel(&member, id).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_follow_a_run_its_events_are_read_once_for_all_of_them() {
    const LISTENERS: usize = 40;
    let world = World::new().await;
    // nothing listens on port 9 of the loopback: every event comes out of the table
    let api = world.api_with(&[("REDIS_URL", "redis://127.0.0.1:9")]).await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let run = start(&member, &pipeline).await;
    let path = format!("/api/v1/executions/{run}/events");
    let mut streams = Vec::new();
    for _ in 0..LISTENERS {
        streams.push(member.client.request(Method::GET, &path).send().await.unwrap().error_for_status().unwrap());
    }
    let mut hand = world.take(run).await;
    hand.completes("in", "hello").await;
    hand.completes("up", "HELLO").await;
    hand.complete().await;
    for stream in streams {
        let heard = events(&stream.text().await.unwrap());
        assert_eq!(names(&heard), ["started", "progress", "progress", "progress", "progress", "completed"]);
    }
    api.running.stop().await;
    let scans = async || {
        world.count_rows("pg_stat_user_tables, generate_series(1, idx_scan) WHERE relname = 'job_events'").await
    };
    // PostgreSQL counts what a connection has done when it ends
    let read = eventually("the reads to be counted", async || Some(scans().await).filter(|read| *read > 0)).await;
    assert!(read < i64::try_from(LISTENERS).unwrap(), "{read} reads for {LISTENERS} listeners");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_run_answers_with_its_results() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let body = json!({ "inputs": inputs(), "config": { "async": false } });
    let run = format!("{pipeline}/run");
    let work = async {
        let mut hand = world.take_next(member.organization_id()).await;
        hand.completes("in", "hello").await;
        hand.completes("up", "HELLO").await;
        hand.complete().await
    };
    let (answer, _) = tokio::join!(member.client.post(&run, body), work);
    let answer = answer.expect(200);
    let metadata = json!({ "model": "gpt-4", "tokens_used": 7, "cost": 0.0015 });
    assert_eq!(answer["results"], json!({ "up": { "text": "HELLO", "metadata": metadata } }), "inputs are no results");
    assert_eq!(answer["status"], "completed");
    assert!(answer["duration"].is_i64() || answer["duration"].is_u64());
    let id: Uuid = answer["execution_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(show(&member, id).await["completed_at"], answer["completed_at"]);
    assert_eq!(world.job(id).await.priority, shared::kind::Priority::Interactive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_run_that_fails_says_in_which_node_and_is_kept() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let run = format!("{pipeline}/run");
    let body = json!({ "inputs": inputs(), "config": { "async": false } });
    for (code, status, word) in [
        ("node_failed", 422, "PIPELINE_EXECUTION_FAILED"),
        ("worker_died", 422, "PIPELINE_EXECUTION_FAILED"),
        ("ai_service_error", 502, "AI_SERVICE_ERROR"),
        ("llm_timeout", 502, "AI_SERVICE_ERROR"),
    ] {
        let work = async {
            let hand = world.take_next(member.organization_id()).await;
            let id = hand.job.id;
            hand.fail("up", code, "it would not").await;
            id
        };
        let (answer, id) = tokio::join!(member.client.post(&run, body.clone()), work);
        let details = json!([{ "field": "up", "message": "it would not" }]);
        assert_eq!(answer.body["error"]["details"], details, "{}", answer.text);
        assert_eq!(answer.error(status), word);
        let shown = show(&member, id).await;
        assert_eq!(shown["status"], "failed");
        assert_eq!(shown["error"], json!({ "code": word, "message": "it would not", "node_id": "up" }));
    }
    let work = async {
        let hand = world.take_next(member.organization_id()).await;
        cancel(&member, hand.job.id).await.expect(200);
        hand.stop().await
    };
    let (answer, _) = tokio::join!(member.client.post(&run, body), work);
    assert_eq!(answer.error(409), "CONFLICT");
    assert_eq!(member.client.get("/executions?status=failed").await.expect(200)["pagination"]["total"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_shows_results_logs_and_what_it_used() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let id = start(&member, &pipeline).await;
    let mut hand = world.take(id).await;
    hand.completes("in", "hello").await;
    hand.log("up", "once more").await;
    let running = show(&member, id).await;
    assert_eq!((&running["status"], &running["completed_at"]), (&json!("running"), &Value::Null));

    let store = Storage::new(&ObjectStore::read(&mut Reader::new(world.settings(&[]))));
    let key = format!("executions/{id}/up");
    store.put(&key, Bytes::from("HELLO".repeat(20_000)), "text/plain").await.unwrap();
    hand.node("up", StepStatus::Running, json!({})).await;
    let large = json!({ "object": key, "bytes": 100_000, "preview": "HELLO", "metadata": { "tokens_used": 3 } });
    hand.node("up", StepStatus::Completed, large).await;
    hand.complete().await;

    let shown = show(&member, id).await;
    let result = &shown["results"]["up"];
    assert_eq!(result["text"], "HELLO");
    let metadata = &result["metadata"];
    assert_eq!((&metadata["truncated"], &metadata["size_bytes"]), (&json!(true), &json!(100_000)));
    assert_eq!((&metadata["model"], &metadata["tokens_used"], &metadata["cost"]), (&Value::Null, &json!(3), &json!(0)));
    let whole = reqwest::get(metadata["url"].as_str().unwrap()).await.unwrap().text().await.unwrap();
    assert_eq!(whole.len(), 100_000);
    let lines: Vec<_> = shown["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["level"].as_str().unwrap(), l["message"].as_str().unwrap(), &l["node_id"]))
        .collect();
    let (none, input, up) = (Value::Null, json!("in"), json!("up"));
    let expected = [
        ("info", "Execution started", &none),
        ("info", "Node in started", &input),
        ("info", "Node in completed", &input),
        ("warn", "once more", &up),
        ("info", "Node up started", &up),
        ("info", "Node up completed", &up),
        ("info", "Execution completed", &none),
    ];
    assert_eq!(lines, expected);
    let metrics = json!({ "duration": shown["duration"], "node_executions": 2, "tokens_used": 14, "cost": 0.003 });
    assert_eq!(shown["metrics"], metrics);
    assert_eq!(
        (&shown["node_executions"], &shown["tokens_used"], &shown["cost"]),
        (&json!(2), &json!(14), &json!(0.003))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_outlive_their_pipeline() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let id = start(&member, &pipeline).await;
    member.client.delete(&pipeline).await.expect(204);
    let mut hand = world.take(id).await;
    hand.completes("in", "hello").await;
    hand.complete().await;
    assert_eq!(show(&member, id).await["pipeline_name"], "Shout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_is_cancelled_in_each_state_by_who_may() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let member = world.colleague(&api, &admin, "member").await;
    let manager = world.colleague(&api, &admin, "manager").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let stranger = world.member(&api).await;
    let pipeline = pipeline(&admin).await;
    let of_admin = start(&admin, &pipeline).await;
    assert_eq!(cancel(&member, of_admin).await.error(403), "INSUFFICIENT_PERMISSIONS");
    cancel(&viewer, of_admin).await.error(403);
    assert_eq!(cancel(&stranger, of_admin).await.error(404), "RESOURCE_NOT_FOUND");
    let answer = cancel(&manager, of_admin).await.expect(200);
    assert_eq!((&answer["execution_id"], &answer["status"]), (&json!(of_admin), &json!("cancelled")));
    assert!(answer["message"].is_string());
    assert_eq!(world.job(of_admin).await.status, JobStatus::Cancelled, "it waited, and has ended at once");
    assert_eq!(cancel(&admin, of_admin).await.error(409), "CONFLICT");

    let of_member = start(&member, &pipeline).await;
    let hand = world.take(of_member).await;
    cancel(&member, of_member).await.expect(200);
    assert!(world.job(of_member).await.cancel_requested);
    hand.stop().await;
    let shown = show(&viewer, of_member).await;
    assert_eq!((&shown["status"], &shown["error"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(shown["logs"].as_array().unwrap().last().unwrap()["message"], "Execution cancelled");
    for id in ["1", &Uuid::now_v7().to_string()] {
        admin.client.get(&format!("/executions/{id}")).await.error(404);
        admin.client.post(&format!("/executions/{id}/cancel"), json!({})).await.error(404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_execution_runs_again_without_what_it_had_finished() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let stranger = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let first = start(&member, &pipeline).await;
    let retry = format!("/executions/{first}/retry");
    assert_eq!(member.client.post(&retry, json!({})).await.error(409), "CONFLICT");
    let mut hand = world.take(first).await;
    assert_eq!(member.client.post(&retry, json!({})).await.error(409), "CONFLICT");
    hand.completes("in", "hello").await;
    hand.fail("up", "node_failed", "no").await;
    assert_eq!(stranger.client.post(&retry, json!({})).await.error(404), "RESOURCE_NOT_FOUND");
    let viewer = world.colleague(&api, &member, "viewer").await;
    viewer.client.post(&retry, json!({})).await.error(403);

    // what is run again is what was run, whatever has become of the pipeline
    member.client.patch(&pipeline, json!({ "name": "Other", "nodes": [], "connections": [] })).await.expect(200);
    let accepted = member.client.post(&retry, json!({})).await.expect(202);
    let second: Uuid = accepted["execution_id"].as_str().unwrap().parse().unwrap();
    assert_eq!((&accepted["status"], &accepted["queue_position"]), (&json!("queued"), &json!(0)));
    let steps = world.steps(second).await;
    let states: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.status)).collect();
    assert_eq!(states, [("in", StepStatus::Completed), ("up", StepStatus::Pending)]);
    let mut hand = world.take(second).await;
    hand.completes("up", "HELLO").await;
    hand.complete().await;
    let shown = show(&member, second).await;
    assert_eq!(
        (&shown["retry_of"], &shown["inputs"], &shown["pipeline_name"]),
        (&json!(first), &inputs(), &json!("Shout"))
    );
    assert_eq!((&shown["node_executions"], &shown["results"]["up"]["text"]), (&json!(1), &json!("HELLO")));
    let nodes: BTreeSet<_> =
        shown["logs"].as_array().unwrap().iter().filter_map(|line| line["node_id"].as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["in", "up"]), "a line for each node");
    assert_eq!(member.client.post(&format!("/executions/{second}/retry"), json!({})).await.error(409), "CONFLICT");

    member.client.patch(&pipeline, json!({ "status": "archived" })).await.expect(200);
    assert_eq!(member.client.post(&retry, json!({})).await.error(409), "CONFLICT");
    member.client.delete(&pipeline).await.expect(204);
    let third = member.client.post(&retry, json!({})).await.expect(202);
    cancel(&member, third["execution_id"].as_str().unwrap().parse().unwrap()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_are_filtered_and_sorted_and_belong_to_the_organization() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let stranger = world.member(&api).await;
    let (one, two) = (pipeline(&admin).await, pipeline(&admin).await);
    let runs = [start(&admin, &one).await, start(&admin, &two).await, start(&admin, &one).await];
    let mut slow = world.take(runs[0]).await;
    slow.completes("in", "a").await;
    slow.complete().await;
    world
        .run_sql(&format!("UPDATE jobs SET started_at = started_at - interval '1 minute' WHERE id = '{}'", runs[0]))
        .await;
    world.take(runs[1]).await.complete().await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    for (query, expected) in [
        (String::new(), vec![2, 1, 0]),
        (format!("?pipeline_id={}", id(&one)), vec![2, 0]),
        (format!("?pipeline_id={},{}&sort=created_at", id(&one), id(&two)), vec![0, 1, 2]),
        ("?status=completed".to_owned(), vec![1, 0]),
        ("?status=queued,running".to_owned(), vec![2]),
        ("?sort=-duration".to_owned(), vec![0, 1, 2]),
        ("?sort=duration".to_owned(), vec![1, 0, 2]),
        ("?sort=-cost".to_owned(), vec![0, 2, 1]),
        ("?sort=completed_at".to_owned(), vec![0, 1, 2]),
        ("?sort=started_at&limit=1&page=2".to_owned(), vec![1]),
    ] {
        let list = viewer.client.get(&format!("/executions{query}")).await.expect(200);
        let found: Vec<_> = list["data"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
        let expected: Vec<_> = expected.into_iter().map(|index: usize| runs[index].to_string()).collect();
        assert_eq!(found, expected, "{query}");
    }
    let page = viewer.client.get("/executions?sort=-duration&limit=1").await.expect(200);
    let cursor = page["pagination"]["next_cursor"].as_str().unwrap();
    let next = viewer.client.get(&format!("/executions?sort=-duration&limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(next["data"][0]["id"], runs[1].to_string());
    let answer = viewer.client.get("/executions?pipeline_id=7&status=gone&sort=name").await;
    assert_eq!(fields(&answer), BTreeSet::from(["pipeline_id", "sort", "status"]));
    answer.error(400);
    assert_eq!(stranger.client.get("/executions").await.expect(200)["pagination"]["total"], 0);
    for path in [format!("/executions/{}", runs[0]), format!("/executions/{}/events", runs[0])] {
        assert_eq!(stranger.client.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
    }
    cancel(&admin, runs[2]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_a_stream_is_over_at_once_though_the_execution_is_not() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = start(&member, &pipeline(&member).await).await;
    let mut connection = TcpStream::connect(member.client.address()).await.unwrap();
    let head = format!(
        "HEAD /api/v1/executions/{id}/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
        member.client.token()
    );
    // the second one on the same connection is heard only once the first is answered for good
    connection
        .write_all(format!("{head}{}", head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)).as_bytes())
        .await
        .unwrap();
    let mut answers = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), connection.read_to_string(&mut answers));
    read.await.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches("text/event-stream").count(), 2, "{answers}");
    assert!(answers.ends_with("\r\n\r\n") && !answers.contains("still here"), "{answers}");
    assert_eq!(show(&member, id).await["status"], "queued");
    cancel(&member, id).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_what_was_and_what_comes_each_once_and_ends() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let id = start(&member, &pipeline).await;
    let mut hand = world.take(id).await;
    hand.completes("in", "hello").await;

    let path = format!("/api/v1/executions/{id}/events");
    let stream = member.client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(stream.headers().get("content-encoding").is_none());
    let mut text = String::new();
    let mut body = stream.bytes_stream();
    while names(&events(text.rsplit_once("\n\n").map_or("", |(whole, _)| whole))).len() < 3 {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    hand.log("up", "two\nlines").await;
    hand.completes("up", "HELLO").await;
    let completed_at = hand.complete().await;
    while let Some(piece) = body.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    let events_sent = events(&text);
    assert_eq!(names(&events_sent), ["started", "progress", "progress", "log", "progress", "progress", "completed"]);
    let numbers: Vec<_> = events_sent.iter().map(|event| event.id.parse::<usize>().unwrap()).collect();
    assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
    for event in &events_sent {
        assert_eq!((&event.data["id"], event.data["seq"].to_string()), (&json!(id), event.id.clone()));
    }
    assert_eq!(events_sent[0].data["pipeline_id"], pipeline.rsplit('/').next().unwrap());
    let progress: Vec<_> = events_sent.iter().filter_map(|event| event.data["progress"].as_f64()).collect();
    assert_eq!(progress, [0.0, 0.5, 0.5, 1.0]);
    assert_eq!(
        (&events_sent[3].data["node_id"], &events_sent[3].data["message"]),
        (&json!("up"), &json!("two\nlines"))
    );
    let shown = show(&member, id).await;
    assert_eq!(events_sent[6].data["duration"], shown["duration"]);
    assert_eq!(events_sent[6].data["completed_at"], shown["completed_at"]);
    assert_eq!(
        shown["completed_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros(),
        completed_at.timestamp_micros()
    );

    // later, and again from the middle: by the header of a browser, or by the query
    let header = member.client.request(Method::GET, &path).header("Last-Event-ID", "5");
    let later = events(&member.client.send(header).await.text);
    assert_eq!(later, events_sent[5..]);
    let query = member.client.get(&format!("/executions/{id}/events?last_event_id=6")).await;
    assert_eq!(events(&query.text), events_sent[6..]);
    let over = member.client.get(&format!("/executions/{id}/events?last_event_id=7")).await;
    assert_eq!(over.status, 204, "a browser is told to stay away");
    let wrong = member.client.get(&format!("/executions/{id}/events?last_event_id=x")).await;
    assert_eq!(wrong.error(400), "VALIDATION_ERROR");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_failure_or_the_cancelling() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let failed = start(&member, &pipeline).await;
    world.take(failed).await.fail("up", "llm_timeout", "too slow").await;
    let sent = events(&member.client.get(&format!("/executions/{failed}/events")).await.text);
    assert_eq!(names(&sent), ["started", "progress", "failed"]);
    assert_eq!(sent[1].data["message"], "Node up failed: too slow");
    let error = json!({ "code": "AI_SERVICE_ERROR", "message": "too slow", "node_id": "up" });
    assert_eq!(sent[2].data["error"], error);
    assert!(sent[2].data["failed_at"].is_string());
    let cancelled = start(&member, &pipeline).await;
    cancel(&member, cancelled).await.expect(200);
    let sent = events(&member.client.get(&format!("/executions/{cancelled}/events")).await.text);
    assert_eq!((names(&sent), &sent[0].data["status"]), (vec!["failed"], &json!("cancelled")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_five_streams_at_once() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    let id = start(&member, &pipeline).await;
    let path = format!("/api/v1/executions/{id}/events");
    let mut open = Vec::new();
    for _ in 0..5 {
        let stream = member.client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        open.push(stream);
    }
    let sixth = member.client.get(&format!("/executions/{id}/events")).await;
    assert_eq!(sixth.headers["retry-after"], "5");
    assert!(sixth.body["error"]["retry_after"].is_u64());
    assert_eq!(sixth.error(429), "RATE_LIMIT_EXCEEDED");
    cancel(&member, id).await.expect(200);
    for stream in open {
        assert_eq!(names(&events(&stream.text().await.unwrap())), ["failed"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_accepted_and_watched_while_redis_is_away() {
    let world = World::with_own_redis().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let pipeline = pipeline(&member).await;
    world.redis_server(|redis| redis.stop());
    let body = json!({ "inputs": inputs() });
    let mut runs: Vec<Uuid> = Vec::new();
    for ahead in 0..3 {
        let accepted = member.client.post(&format!("{pipeline}/run"), body.clone()).await.expect(202);
        assert_eq!(accepted["queue_position"], ahead, "counted in the table");
        runs.push(accepted["execution_id"].as_str().unwrap().parse().unwrap());
    }
    for run in &runs {
        cancel(&member, *run).await.expect(200);
    }
    let sent = events(&member.client.get(&format!("/executions/{}/events", runs[0])).await.text);
    assert_eq!(names(&sent), ["failed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_account_counts_pipelines_executions_and_tokens_of_the_month() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let usage = async || member.client.get("/users/me").await.expect(200)["usage"].clone();
    let count = |pipelines: i64, executions: i64, tokens: i64| json!({ "pipelines_created": pipelines, "executions_this_month": executions, "tokens_used_this_month": tokens });
    assert_eq!(usage().await, count(0, 0, 0));
    let pipeline = pipeline(&member).await;
    let runs = [start(&member, &pipeline).await, start(&member, &pipeline).await];
    for run in runs {
        cancel(&member, run).await.expect(200);
    }
    let (user, organization) = (member.id(), member.organization_id());
    world.run_sql(&format!(
            "UPDATE executions SET created_at = created_at - interval '32 days' WHERE id = '{}'; \
             INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, total_tokens, status, created_at) \
             SELECT gen_random_uuid(), '{organization}', '{user}', gen_random_uuid(), '/ai/chat', 'gpt-4', 5, 'completed', at \
             FROM (VALUES (now()), (now()), (now() - interval '32 days')) AS t (at)",
            runs[0]
        ),
    )
    .await;
    assert_eq!(usage().await, count(1, 1, 10));
    let named = member.client.patch("/users/me", json!({ "name": "Ada" })).await.expect(200);
    assert_eq!(named["usage"], count(1, 1, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_worker_answers_a_synchronous_run() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let worker = world.worker(&["pipelines"]).await;
    let pipeline = pipeline(&member).await;
    let run = format!("{pipeline}/run");
    let body = json!({ "inputs": inputs(), "config": { "async": false } });
    let answer = member.client.post(&run, body.clone()).await.expect(200);
    assert_eq!(answer["results"]["up"]["text"], "HELLO");
    let id: Uuid = answer["execution_id"].as_str().unwrap().parse().unwrap();
    let sent = events(&member.client.get(&format!("/executions/{id}/events")).await.text);
    assert_eq!((names(&sent).first(), names(&sent).last()), (Some(&"started"), Some(&"completed")));
    let told: BTreeSet<_> = sent.iter().filter_map(|event| event.data["node_id"].as_str()).collect();
    assert_eq!(told, BTreeSet::from(["in", "up"]), "at least one event for each node");

    member.client.patch(&pipeline, json!({ "nodes": [], "connections": [] })).await.expect(200);
    let nothing = json!({ "config": { "async": false } });
    assert_eq!(member.client.post(&run, nothing).await.error(422), "PIPELINE_EXECUTION_FAILED");
    assert_eq!(member.client.get("/executions?status=failed").await.expect(200)["pagination"]["total"], 1);
    worker.stop().await;
}
