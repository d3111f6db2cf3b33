//! Projects, templates, orchestrations, files and figures.

use super::{ask, get, joined, list};
use harness::World;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

fn project() -> Value {
    json!({
        "id": "uuid", "name": "string", "description": "string", "topic": "string",
        "status": "active completed archived failed", "priority": "low medium high urgent",
        "created_by": { "id": "uuid", "username": "string", "full_name": "string" }, "metadata": "object",
        "created_at": "time", "updated_at": "time",
    })
}

fn template() -> Value {
    json!({
        "id": "uuid", "name": "string", "description": "string", "category": "string", "is_public": "bool",
        "usage_count": "int", "created_by": { "username": "string", "full_name": "string" },
        "template_data": { "phases": ["string"], "integrations": ["string"], "settings": "object" },
        "created_at": "time", "updated_at": "time",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_their_orchestrations_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let message = json!({ "message": "string" });
    let statuses = "started running completed failed cancelled";
    let run = json!({ "id": "uuid", "status": statuses, "success_rate": "number", "created_at": "time" });
    let single = joined(&[project(), json!({ "orchestration_runs": [run] })]);
    let body = json!({ "name": "Shop", "topic": "A shop for tea", "metadata": { "budget": 5000 } });
    let made = ask(&client, Method::POST, "/v1/projects", body, 201, &project()).await;
    let project_id = made["id"].as_str().unwrap();
    let path = format!("/v1/projects/{project_id}");
    get(&client, "/v1/projects", &list(project())).await;
    ask(&client, Method::PUT, &path, json!({ "priority": "high" }), 200, &project()).await;

    get(&client, "/v1/templates", &list(template())).await;
    let body = json!({ "name": "Mine", "template_data": { "phases": ["plan", "do"] } });
    let made = ask(&client, Method::POST, "/v1/templates", body, 201, &template()).await;
    let template_id = made["id"].as_str().unwrap();
    get(&client, &format!("/v1/templates/{template_id}"), &template()).await;
    ask(&client, Method::PUT, &format!("/api/v1/templates/{template_id}"), json!({ "name": "Ours" }), 200, &template())
        .await;

    let started = json!({
        "run_id": "uuid", "status": "started", "message": "string", "estimated_completion": "time",
        "phases": [{ "code": "string", "name": "string", "status": "pending", "estimated_duration": "string" }],
    });
    let body = json!({ "project_id": project_id, "template_id": template_id, "integration_enabled": true });
    let run = ask(&client, Method::POST, "/v1/orchestrate", body, 201, &started).await;
    let run_id = run["run_id"].as_str().unwrap();
    let listed = json!({
        "id": "uuid", "project": { "id": "uuid", "name": "string" }, "topic": "string", "status": statuses,
        "success_rate": "number", "execution_time_ms": "int", "created_at": "time",
    });
    get(&client, "/v1/orchestration", &list(listed)).await;
    let tokens = json!({ "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int" });
    let shown = json!({
        "run": {
            "id": "uuid", "project_id": "uuid", "topic": "string", "status": statuses, "total_phases": "int",
            "completed_phases": "int", "success_rate": "number", "integration_enabled": "bool",
            "execution_time_ms": "int", "created_at": "time", "updated_at": "time",
        },
        "phases": [{
            "id": "uuid", "phase_code": "string", "phase_name": "string",
            "status": "pending running completed failed cancelled", "response_text": "string?",
            "execution_time_ms": "int?", "token_usage": tokens, "started_at": "time?", "completed_at": "time?",
        }],
        "integration_operations": ["object"],
    });
    get(&client, &format!("/v1/orchestration/{run_id}"), &shown).await;
    get(&client, &path, &single).await;
    let cancelled = json!({ "message": "string", "run_id": "uuid", "status": "cancelled" });
    let cancel = format!("/v1/orchestration/{run_id}/cancel");
    ask(&client, Method::POST, &cancel, Value::Null, 200, &cancelled).await;
    ask(&client, Method::DELETE, &path, Value::Null, 200, &message).await;
    client.delete(&format!("/templates/{template_id}")).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_figures_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let file = json!({
        "id": "uuid", "filename": "string", "size": "int", "mime_type": "string", "url": "string", "created_at": "time",
    });
    let form = Form::new().part("file", Part::bytes(b"tea".to_vec()).file_name("tea.txt"));
    let request = client.request(Method::POST, "/api/files/upload").multipart(form);
    let made = client.send(request).await.expect(201);
    super::check(&made, &file, "POST /files/upload");
    let path = format!("/api/files/{}", made["id"].as_str().unwrap());
    get(&client, "/api/files", &list(file.clone())).await;
    get(&client, &path, &file).await;
    ask(&client, Method::DELETE, &path, Value::Null, 200, &json!({ "message": "string" })).await;

    let usage = json!({
        "api_usage": [{ "date": "string", "requests": "int", "tokens": "int", "avg_response_time": "number" }],
        "runs_summary": {
            "total_runs": "int", "completed_runs": "int", "failed_runs": "int", "avg_execution_time": "number",
            "success_rate": "number",
        },
        "top_projects": [{
            "project_id": "uuid", "project_name": "string", "run_count": "int", "success_rate": "number",
        }],
        "integration_usage": { "file_system": "int", "git_operations": "int", "deployment": "int" },
    });
    get(&client, "/v1/analytics/usage", &usage).await;
    let performance = json!({
        "response_times": { "p50": "number", "p95": "number", "p99": "number" },
        "error_rates": { "4xx": "number", "5xx": "number" },
        "throughput": { "requests_per_second": "number", "peak_rps": "number" },
        "resource_usage": { "cpu_utilization": "number", "memory_usage": "number", "disk_usage": "number" },
    });
    get(&client, "/v1/analytics/performance", &performance).await;
}
