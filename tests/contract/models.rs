//! Language models and what they cost; files and figures.

use super::{ask, check, get, list, user};
use harness::World;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn models_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]).await;
    let client = world.member(&api).await.client;
    let tokens = json!({ "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int" });
    let answer = |choice: Value| {
        json!({
            "id": "uuid", "model": "string", "choices": [choice], "usage": tokens, "created": "int",
            "metadata": "object",
        })
    };
    let said = json!({
        "index": "int", "message": { "role": "assistant", "content": "string" }, "finish_reason": "stop length",
    });
    let text = json!({ "text": "string", "index": "int", "finish_reason": "stop length" });
    let reply = json!({
        "id": "uuid", "message": "string", "model": "string", "usage": tokens, "created_at": "time",
    });
    for (path, body, pattern) in [
        ("/api/v1/ai/chat", json!({ "messages": [{ "role": "user", "content": "x" }] }), answer(said)),
        ("/api/v1/ai/generate", json!({ "prompt": "x", "n": 2 }), answer(text)),
        ("/api/v1/chat", json!({ "message": "x" }), reply),
    ] {
        let (answer, ()) = tokio::join!(ask(&client, Method::POST, path, body, 200, &pattern), async {
            world.question().await.answer("Yes").await;
        });
        assert!(answer.to_string().contains("Yes"));
    }
    let model = json!({
        "id": "string", "name": "string", "description": "string", "max_tokens": "int",
        "supported_endpoints": ["chat generate"], "pricing": { "per_1k_tokens": "number" }, "local": "bool",
    });
    get(&client, "/api/v1/ai/models", &list(model)).await;
    let record = json!({
        "id": "uuid", "created_at": "time", "date": "string", "endpoint": "string", "model": "string",
        "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int", "cost": "number",
        "status": "completed failed", "response_time_ms": "int",
    });
    get(&client, "/api/v1/usage", &list(record)).await;
    let entry = json!({
        "id": "uuid", "message": "string", "response": "string", "model": "string", "created_at": "time",
    });
    get(&client, "/api/v1/chat/history", &list(entry)).await;
    let usage = json!({
        "usage": {
            "total_requests": "int", "total_tokens": "int", "total_cost": "number", "by_model": "object",
            "by_date": [{ "date": "string", "requests": "int", "tokens": "int", "cost": "number" }],
        },
        "quota": user()["quota"],
    });
    get(&client, "/api/v1/ai/usage", &usage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_figures_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let file = json!({
        "id": "uuid", "filename": "string", "size": "int", "mime_type": "string", "url": "string", "created_at": "time",
    });
    let form = Form::new().part("file", Part::bytes(b"bytes".as_slice()).file_name("a.txt"));
    let made = client.send(client.request(Method::POST, "/api/files/upload").multipart(form)).await.expect(201);
    check(&made, &file, "POST /files/upload");
    let path = format!("/v1/files/{}", made["id"].as_str().unwrap());
    get(&client, &path, &file).await;
    get(&client, "/api/v1/files", &list(file)).await;
    ask(&client, Method::DELETE, &path, Value::Null, 200, &json!({ "message": "string" })).await;

    let usage = json!({
        "api_usage": [{ "date": "string", "requests": "int", "tokens": "int", "avg_response_time": "number" }],
        "runs_summary": {
            "total_runs": "int", "completed_runs": "int", "failed_runs": "int", "avg_execution_time": "number",
            "success_rate": "number",
        },
        "top_projects": [{ "project_id": "uuid", "project_name": "string", "run_count": "int", "success_rate": "number" }],
        "integration_usage": { "file_system": "int", "git_operations": "int", "deployment": "int" },
    });
    get(&client, "/v1/analytics/usage?days=7", &usage).await;
    let performance = json!({
        "response_times": { "p50": "number", "p95": "number", "p99": "number" },
        "error_rates": { "4xx": "number", "5xx": "number" },
        "throughput": { "requests_per_second": "number", "peak_rps": "number" },
        "resource_usage": { "cpu_utilization": "number", "memory_usage": "number", "disk_usage": "number" },
    });
    get(&client, "/v1/analytics/performance", &performance).await;
}
