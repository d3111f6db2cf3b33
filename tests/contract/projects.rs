//! Projects, templates and orchestrations.

use super::{ask, get, joined, list};
use harness::World;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_templates_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let project = json!({
        "id": "uuid", "name": "string", "description": "string", "topic": "string",
        "status": "active completed archived failed", "priority": "low medium high urgent",
        "created_by": { "id": "uuid", "username": "string", "full_name": "string" }, "metadata": "object",
        "created_at": "time", "updated_at": "time",
    });
    let run = json!({
        "id": "uuid", "status": "started running completed failed cancelled", "success_rate": "number",
        "created_at": "time",
    });
    let single = joined(&[project.clone(), json!({ "orchestration_runs": [run] })]);
    let made = ask(&client, Method::POST, "/v1/projects", json!({ "name": "Website" }), 201, &single).await;
    let path = format!("/v1/projects/{}", made["id"].as_str().unwrap());
    get(&client, &path, &single).await;
    ask(&client, Method::PUT, &path, json!({ "topic": "Mugs" }), 200, &single).await;
    get(&client, "/v1/projects", &list(project)).await;
    let gone = json!({ "message": "string" });
    let gone = ask(&client, Method::DELETE, &path, Value::Null, 200, &gone).await;
    assert_eq!(gone["message"], "Project deleted successfully");

    let template = json!({
        "id": "uuid", "name": "string", "description": "string", "category": "string", "is_public": "bool",
        "usage_count": "int", "created_by": { "username": "string", "full_name": "string" },
        "template_data": { "phases": ["string"], "integrations": ["string"], "settings": "object" },
        "created_at": "time", "updated_at": "time",
    });
    let new = json!({ "name": "Own", "template_data": { "phases": ["Ideation"] } });
    let made = ask(&client, Method::POST, "/v1/templates", new, 201, &template).await;
    let path = format!("/v1/templates/{}", made["id"].as_str().unwrap());
    get(&client, &path, &template).await;
    ask(&client, Method::PATCH, &path, json!({ "is_public": true }), 200, &template).await;
    get(&client, "/v1/templates", &list(template)).await;
}

fn orchestration(status: &str, error: Value) -> Value {
    let run = json!({
        "id": "uuid", "project_id": "uuid", "topic": "string", "status": status, "total_phases": "int",
        "completed_phases": "int", "success_rate": "number", "integration_enabled": "bool", "execution_time_ms": "int",
        "created_at": "time", "updated_at": "time",
        // beside what is documented
        "ai_model": "string", "tokens_used": "int", "cost": "number", "template_id": "uuid?", "retry_of": "uuid?",
        "error": error,
    });
    let tokens = json!({ "prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int" });
    let phase = json!({
        "id": "uuid", "phase_code": "string", "phase_name": "string",
        "status": "pending running completed failed cancelled", "response_text": "string?", "execution_time_ms": "int?",
        "token_usage": tokens, "started_at": "time?", "completed_at": "time?",
    });
    let operation = json!({
        "id": "uuid", "operation_type": "file_system git_operations deployment", "status": "pending completed failed",
        "result": { "success": "bool", "message": "string" }, "execution_time_ms": "int", "phase_code": "string?",
    });
    json!({ "run": run, "phases": [phase], "integration_operations": [operation] })
}

#[tokio::test(flavor = "multi_thread")]
async fn orchestrations_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let project = world.project(&member, "Lamps", json!({})).await;
    let phase = json!({
        "code": "string", "name": "string", "status": "pending", "estimated_duration": "string",
    });
    let started = json!({
        "run_id": "uuid", "status": "started", "message": "string", "estimated_completion": "time", "phases": [phase],
    });
    let body = json!({ "project_id": project });
    let run = ask(client, Method::POST, "/v1/orchestrate", body, 201, &started).await;
    assert_eq!(run["phases"].as_array().unwrap().len(), 7);
    let path = format!("/v1/orchestration/{}", run["run_id"].as_str().unwrap());
    let shown = get(client, &path, &orchestration("started", Value::Null)).await;
    assert_eq!(shown["integration_operations"].as_array().unwrap().len(), 7);
    let summary = json!({
        "id": "uuid", "project": { "id": "uuid", "name": "string" }, "topic": "string", "status": "started",
        "success_rate": "number", "execution_time_ms": "int", "created_at": "time",
    });
    get(client, "/v1/orchestration", &list(summary)).await;
    let cancelled = json!({ "message": "string", "run_id": "uuid", "status": "cancelled" });
    ask(client, Method::POST, &format!("{path}/cancel"), Value::Null, 200, &cancelled).await;
    get(client, &path, &orchestration("cancelled", Value::Null)).await;
    let again = ask(client, Method::POST, &format!("{path}/retry"), Value::Null, 201, &started).await;
    let again = format!("/v1/orchestration/{}", again["run_id"].as_str().unwrap());
    ask(client, Method::POST, &format!("{again}/cancel"), Value::Null, 200, &cancelled).await;

    world
        .run_sql(&format!(
            "INSERT INTO project_repositories (project_id, head, s3_key, size, commits) VALUES ('{project}', 'x', 'y', 1, 1)"
        ))
        .await;
    let repository = json!({
        "head": "string", "branch": "main", "commits": "int", "size": "int", "url": "string", "updated_at": "time",
    });
    get(client, &format!("/v1/projects/{project}/repository"), &repository).await;
}
