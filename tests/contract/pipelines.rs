//! Pipelines and their runs.

use super::{ask, get, joined, list};
use harness::World;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

fn pipeline_summary() -> Value {
    json!({
        "id": "uuid", "name": "string", "description": "string", "status": "draft published archived",
        "metadata": "object", "node_count": "int", "last_executed": "time?", "created_by": "uuid",
        "created_at": "time", "updated_at": "time",
    })
}

fn pipeline() -> Value {
    let node = json!({
        "id": "string", "type": "string", "position": { "x": "number", "y": "number" }, "config": "object",
    });
    let connection = json!({
        "id": "string", "source": "string", "target": "string", "source_handle": "string", "target_handle": "string",
    });
    let execution = json!({
        "id": "uuid", "status": EXECUTION_STATUS, "started_at": "time?", "completed_at": "time?", "duration": "int?",
    });
    joined(&[pipeline_summary(), json!({ "nodes": [node], "connections": [connection], "executions": [execution] })])
}

const EXECUTION_STATUS: &str = "queued running completed failed cancelled";

fn execution_summary() -> Value {
    json!({
        "id": "uuid", "pipeline_id": "uuid", "pipeline_name": "string", "status": EXECUTION_STATUS,
        "started_at": "time?", "completed_at": "time?", "duration": "int?", "node_executions": "int",
        "tokens_used": "int", "cost": "number", "created_at": "time",
    })
}

fn execution(error: Value) -> Value {
    let line = json!({
        "timestamp": "time", "level": "debug info warn error", "message": "string", "node_id": "string?",
    });
    let metrics = json!({ "duration": "int?", "node_executions": "int", "tokens_used": "int", "cost": "number" });
    let more = json!({
        "inputs": "object", "results": "object", "logs": [line], "metrics": metrics, "error": error,
        "webhook_url": "string?", "retry_of": "uuid?",
    });
    joined(&[execution_summary(), more])
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_and_their_runs_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let made = json!({
        "name": "Shout", "nodes": [{ "id": "in", "type": "input" }, { "id": "out", "type": "output" }],
        "connections": [{ "source": "in", "target": "out" }],
    });
    let made = ask(client, Method::POST, "/api/pipelines", made, 201, &pipeline()).await;
    let path = format!("/api/v1/pipelines/{}", made["id"].as_str().unwrap());
    let accepted = json!({
        "execution_id": "uuid", "status": "queued", "estimated_duration": "int", "queue_position": "int",
        "webhook_url": "string?",
    });
    let run = json!({ "inputs": { "in": { "text": "a" } } });
    let run = ask(client, Method::POST, &format!("{path}/run"), run, 202, &accepted).await;
    let id: Uuid = run["execution_id"].as_str().unwrap().parse().unwrap();
    let mut hand = world.take(id).await;
    hand.completes("in", "a").await;
    hand.fail("out", "node_failed", "no").await;
    get(client, &path, &pipeline()).await;
    get(client, "/v1/pipelines", &list(pipeline_summary())).await;
    get(client, "/api/executions", &list(execution_summary())).await;
    let error = json!({ "code": "PIPELINE_EXECUTION_FAILED", "message": "string", "node_id": "string?" });
    get(client, &format!("/api/v1/executions/{id}"), &execution(error)).await;
    let retry = format!("/api/v1/executions/{id}/retry");
    let again = ask(client, Method::POST, &retry, Value::Null, 202, &accepted).await;
    let again = again["execution_id"].as_str().unwrap();
    let cancelled = json!({ "message": "string", "execution_id": "uuid", "status": "cancelled" });
    let cancel = format!("/api/v1/executions/{again}/cancel");
    ask(client, Method::POST, &cancel, Value::Null, 200, &cancelled).await;
    get(client, &format!("/api/v1/executions/{again}"), &execution(Value::Null)).await;

    let work = async {
        let mut hand = world.take_next(member.organization_id()).await;
        hand.completes("out", "a").await;
        hand.complete().await
    };
    let completed = json!({
        "execution_id": "uuid", "status": "completed",
        "results": { "out": { "text": "string", "metadata": { "model": "string?", "tokens_used": "int", "cost": "number" } } },
        "duration": "int", "completed_at": "time",
    });
    let run_path = format!("{path}/run");
    let sync = json!({ "inputs": { "in": { "text": "a" } }, "config": { "async": false } });
    let run = ask(client, Method::POST, &run_path, sync, 200, &completed);
    tokio::join!(run, work);

    let schedule = json!({
        "id": "uuid", "pipeline_id": "uuid", "cron": "string", "timezone": "string", "inputs": "object",
        "enabled": "bool", "missed": "skip run_once", "next_run_at": "time?", "last_run_at": "time?",
        "created_at": "time", "updated_at": "time",
    });
    let new = json!({ "cron": "0 9 * * *", "inputs": { "in": "a" } });
    let schedules = format!("{path}/schedules");
    let made = ask(client, Method::POST, &schedules, new, 201, &schedule).await;
    get(client, &schedules, &list(schedule.clone())).await;
    let one = format!("{schedules}/{}", made["id"].as_str().unwrap());
    get(client, &one, &schedule).await;
    ask(client, Method::PATCH, &one, json!({ "enabled": false }), 200, &schedule).await;
    client.delete(one.strip_prefix("/api/v1").unwrap()).await.expect(204);
    let node_type = json!({
        "type": "string", "title": "string", "description": "string", "inputs": ["string"], "outputs": ["string"],
        "config_schema": "object",
    });
    get(client, "/api/v1/pipelines/node-types", &list(node_type)).await;
    ask(client, Method::POST, &format!("{path}/duplicate"), Value::Null, 201, &pipeline()).await;
    ask(client, Method::PUT, &path, json!({ "name": "Whisper" }), 200, &pipeline()).await;
    client.delete(path.strip_prefix("/api/v1").unwrap()).await.expect(204);
}
