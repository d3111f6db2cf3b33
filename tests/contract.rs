//! The answers of every endpoint, field by field: a client may rely on each being there, and on its type.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

mod index;
mod organization;

use chrono::{DateTime, NaiveDateTime};
use harness::{Api, Member, World, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Checks a value against a pattern of the same form. A pattern's text is the name of a type, with `?` where null may
/// stand, or the words that are allowed; its object must have the very same keys; its array is a list of any length.
fn check(value: &Value, pattern: &Value, at: &str) {
    match pattern {
        Value::String(types) => {
            let (types, nullable) = types.strip_suffix('?').map_or((types.as_str(), false), |types| (types, true));
            assert!(fits(value, types) || nullable && value.is_null(), "{at} is no {types}: {value}");
        }
        Value::Array(elements) => {
            for (index, element) in value.as_array().unwrap_or_else(|| panic!("{at} is no list")).iter().enumerate() {
                check(element, &elements[0], &format!("{at}[{index}]"));
            }
        }
        Value::Object(fields) => {
            let keys = |fields: &Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
            let value = value.as_object().unwrap_or_else(|| panic!("{at} is no object: {value}"));
            assert_eq!(keys(value), keys(fields), "the fields of {at}");
            fields.iter().for_each(|(key, pattern)| check(&value[key], pattern, &format!("{at}.{key}")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => assert_eq!(value, pattern, "{at}"),
    }
}

fn fits(value: &Value, types: &str) -> bool {
    let text = value.as_str().unwrap_or_default();
    match types {
        "uuid" => text.parse::<Uuid>().is_ok_and(|id| id.to_string() == text),
        "time" => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6fZ").is_ok() && text.len() == 27,
        "string" => value.is_string(),
        "int" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "share" => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
        "bool" => value.is_boolean(),
        "object" => value.is_object(),
        "shares" => value.as_object().is_some_and(|shares| shares.values().all(|share| fits(share, "share"))),
        words => words.split(' ').any(|word| word == text),
    }
}

fn auth_user() -> Value {
    json!({
        "id": "uuid", "email": "string", "username": "string", "name": "string", "full_name": "string",
        "role": "admin manager member viewer", "tier": "free basic pro enterprise", "organization_id": "uuid",
        "is_active": "bool", "created_at": "time",
    })
}

fn token_set() -> Value {
    json!({
        "access_token": "string", "refresh_token": "string", "token": "string", "token_type": "bearer",
        "expires_in": "int",
    })
}

fn user() -> Value {
    let window = json!({ "used": "int", "limit": "int?" });
    let more = json!({
        "preferences": {
            "theme": "light dark system", "notifications": { "email": "bool", "browser": "bool" },
            "default_model": "string",
        },
        "usage": { "pipelines_created": "int", "executions_this_month": "int", "tokens_used_this_month": "int" },
        "quota": { "daily": window, "weekly": window, "monthly": window },
        "api_keys": ["object"], "updated_at": "time", "last_login_at": "time?", "mfa_enabled": "bool",
    });
    joined(&[auth_user(), more])
}

fn product() -> Value {
    let image = json!({
        "id": "uuid", "s3_key": "string", "original_filename": "string", "content_type": "string",
        "file_size_bytes": "int", "width": "int?", "height": "int?", "is_primary": "bool",
        "upload_status": "pending uploaded failed", "url": "string", "created_at": "time",
    });
    json!({
        "id": "uuid", "user_id": "uuid", "title": "string", "description": "string?", "category": "string?",
        "subcategory": "string?", "ai_description": "string?", "status": "draft processing active archived",
        "metadata": "object", "metadata_": "object", "images": [image], "created_at": "time", "updated_at": "time",
    })
}

fn analysis() -> Value {
    let attribute = json!({
        "id": "uuid", "attribute_name": "string", "attribute_value": "string", "confidence": "share",
    });
    let defect = json!({
        "id": "uuid", "defect_type": "string", "severity": "low medium high", "confidence": "share",
        "bounding_box": { "x": "number", "y": "number", "width": "number", "height": "number" },
        "description": "string",
    });
    json!({
        "id": "uuid", "product_image_id": "uuid", "model_version": "string", "classification_label": "string?",
        "classification_confidence": "share?", "classification_scores": "shares", "description_text": "string?",
        "description_model": "string?", "processing_time_ms": "int?",
        "status": "pending processing completed failed", "error_message": "string?",
        "extracted_attributes": [attribute], "detected_defects": [defect], "created_at": "time",
        "updated_at": "time",
    })
}

fn job() -> Value {
    let step = json!({
        "id": "uuid", "step_name": "preprocess classify extract_attributes detect_defects describe",
        "status": "pending running completed failed", "started_at": "time?", "completed_at": "time?",
        "duration_ms": "int?", "error_message": "string?", "result_data": "object",
    });
    json!({
        "id": "uuid", "user_id": "uuid", "job_type": "single batch retry",
        "status": "queued processing completed failed cancelled", "total_images": "int", "processed_images": "int",
        "failed_images": "int", "task_id": "uuid", "started_at": "time?", "completed_at": "time?",
        "error_message": "string?", "steps": [step], "created_at": "time", "updated_at": "time",
    })
}

fn list(element: Value) -> Value {
    json!({
        "data": [element],
        "pagination": {
            "total": "int", "limit": "int", "offset": "int?", "page": "int?", "pages": "int", "has_next": "bool",
            "has_prev": "bool", "next_cursor": "string?", "prev_cursor": "string?",
        },
    })
}

fn joined(parts: &[Value]) -> Value {
    parts.iter().flat_map(|part| part.as_object().unwrap().clone()).collect()
}

/// Sends a request and checks status and body.
async fn ask(client: &harness::Client, method: Method, path: &str, body: Value, status: u16, pattern: &Value) -> Value {
    let request = client.request(method.clone(), path);
    let answer = client.send(if body.is_null() { request } else { request.json(&body) }).await.expect(status);
    check(&answer, pattern, &format!("{method} {path}"));
    answer
}

async fn get(client: &harness::Client, path: &str, pattern: &Value) -> Value {
    ask(client, Method::GET, path, Value::Null, 200, pattern).await
}

async fn upload(member: &Member, product: &str, file: &str, content_type: &str) -> (String, String) {
    let file = project_root().join("tests/images").join(file);
    let (image, job) = member.analysed_image(product, &file, content_type).await;
    member.client.follow(&job, "").await;
    (image, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let registered = json!({
        "id": "uuid", "email": "string", "full_name": "string", "is_active": "bool", "created_at": "time",
        "user": auth_user(),
    });
    check(&member.registration, &joined(&[registered, token_set()]), "register");
    let credentials = json!({ "email": member.email, "password": member.password });
    let pattern = joined(&[json!({ "user": auth_user() }), token_set()]);
    let login = ask(&member.client, Method::POST, "/auth/login", credentials, 200, &pattern).await;
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    let tokens = ask(&member.client, Method::POST, "/auth/refresh", refresh, 200, &token_set()).await;
    assert_eq!(tokens["token"], tokens["access_token"]);
    for path in ["/api/v1/auth/me", "/api/users/me", "/v1/users/profile", "/auth/me"] {
        get(&member.client, path, &user()).await;
    }
    for path in ["/auth/profile", "/api/v1/users/me", "/api/v1/users/profile"] {
        for method in [Method::PUT, Method::PATCH] {
            ask(&member.client, method, path, json!({ "name": "Ada" }), 200, &user()).await;
        }
    }
    let message = json!({ "message": "string" });
    let change = json!({ "old_password": member.password, "new_password": "another horse 2" });
    ask(&member.client, Method::PUT, "/auth/password", change, 200, &message).await;
    ask(&member.client, Method::POST, "/auth/logout", Value::Null, 200, &message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_on_its_way_answers_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let made = json!({ "title": "Mug" });
    let made = ask(client, Method::POST, "/api/v1/products", made, 201, &product()).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/api/v1/products/{id}");
    let announcement = json!({
        "product_id": id, "filename": "a.png", "content_type": "image/png", "file_size_bytes": 5,
    });
    let pattern = json!({ "upload_url": "string", "image_id": "uuid", "s3_key": "string", "expires_in": "int" });
    ask(client, Method::POST, "/api/v1/uploads/presigned-url", announcement, 200, &pattern).await;

    let worker = world.worker(&["images"]).await;
    let (good, single) = upload(&member, id, "rocket.jpg", "image/jpeg").await;
    let (bad, _) = upload(&member, id, "bad/text.jpg", "image/jpeg").await;
    let accepted = json!({ "job_id": "uuid", "status": "queued", "message": "string" });
    let retry = format!("/api/v1/analysis/{good}/retry");
    let retried = ask(client, Method::POST, &retry, Value::Null, 200, &accepted).await;
    client.follow(retried["job_id"].as_str().unwrap(), "").await;

    let pair = json!({ "product_id": id, "image_ids": [good, bad] });
    let batch = ask(client, Method::POST, "/api/v1/batch", pair, 201, &job()).await;
    assert_eq!((batch["steps"].as_array().unwrap().len(), &batch["status"]), (5, &json!("queued")));
    let batch = batch["id"].as_str().unwrap();
    let (frames, _) = client.follow(batch, "").await;
    let progress: Vec<_> = frames.iter().map(|frame| frame["progress"]["completed"].as_u64().unwrap()).collect();
    assert!(progress.is_sorted(), "the progress never goes back: {progress:?}");
    assert_eq!(frames.last().unwrap()["progress"], json!({ "completed": 10, "total": 10 }));
    let ended = get(client, &format!("/api/v1/batch/{batch}"), &job()).await;
    assert_eq!((&ended["status"], &ended["failed_images"]), (&json!("completed"), &json!(1)), "{ended}");

    let found = get(client, &format!("/api/v1/analysis/{good}"), &analysis()).await;
    assert!(found["classification_scores"].as_object().unwrap().len() >= 2);
    assert!(found["extracted_attributes"].as_array().unwrap().iter().any(|a| a["attribute_name"] == "color"));
    for field in ["classification_label", "classification_confidence", "description_text", "processing_time_ms"] {
        assert!(!found[field].is_null(), "{field} of a completed analysis");
    }
    let failed = get(client, &format!("/api/v1/analysis/{bad}"), &analysis()).await;
    assert_eq!(failed["status"], "failed");
    assert!(failed["error_message"].as_str().is_some_and(|message| message.contains("text")), "{failed}");
    let shown = get(client, &path, &product()).await;
    let states: Vec<_> = shown["images"].as_array().unwrap().iter().map(|image| &image["upload_status"]).collect();
    assert_eq!(states, ["pending", "uploaded", "failed"]);
    assert_eq!(shown["ai_description"], found["description_text"]);
    get(client, &format!("/api/v1/jobs/{single}"), &job()).await;
    lists(client, &path).await;
    let primary = format!("{path}/images/{good}");
    let image = product()["images"][0].clone();
    ask(client, Method::PUT, &primary, json!({ "is_primary": true }), 200, &image).await;
    ask(client, Method::PATCH, &path, json!({ "status": "archived" }), 200, &product()).await;
    client.delete(&format!("/products/{id}/images/{bad}")).await.expect(204);
    client.delete(&format!("/products/{id}")).await.expect(204);
    worker.stop().await;
}

async fn lists(client: &harness::Client, product_path: &str) {
    get(client, "/api/v1/products", &list(product())).await;
    get(client, &format!("{product_path}/analysis"), &list(analysis())).await;
    get(client, "/api/v1/jobs", &list(job())).await;
    let recent = json!({
        "id": "uuid", "job_type": "single batch retry", "status": "queued processing completed failed cancelled",
        "total_images": "int", "processed_images": "int", "created_at": "time", "completed_at": "time?",
    });
    let recent = get(client, "/api/v1/dashboard/recent", &list(recent)).await;
    assert_eq!((&recent["pagination"]["limit"], &recent["pagination"]["total"]), (&json!(10), &json!(4)));
    let categories = list(json!({ "category": "string", "count": "int" }));
    let categories = get(client, "/api/v1/dashboard/category-distribution", &categories).await;
    assert_eq!(categories["data"], json!([{ "category": "uncategorized", "count": 1 }]));
    let stats = json!({
        "total_products": "int", "total_images": "int", "completed_analyses": "int", "total_defects": "int",
        "active_jobs": "int", "avg_processing_time_ms": "number",
    });
    let stats = get(client, "/api/v1/dashboard/stats", &stats).await;
    assert_eq!((&stats["total_images"], &stats["completed_analyses"]), (&json!(3), &json!(1)));
}

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

#[tokio::test(flavor = "multi_thread")]
async fn operations_answer_with_every_documented_field() {
    let world = World::new().await;
    let api: Api = world.api().await;
    let client = world.client(&api);
    let health = json!({ "status": "healthy", "timestamp": "time", "version": "string", "uptime": "int" });
    get(&client, "/health", &health).await;
    let three = |word: &str| json!({ "database": word, "redis": word, "storage": word });
    let ready = json!({ "status": "ready", "services": three("connected"), "checks": three("ok") });
    get(&client, "/ready", &ready).await;
    let error = client.get("/nothing").await;
    let pattern = json!({
        "error": {
            "code": "string", "message": "string", "details": ["object"], "request_id": "string", "timestamp": "time",
        },
    });
    check(&error.body, &pattern, "an error");
    assert!(DateTime::parse_from_rfc3339(error.body["error"]["timestamp"].as_str().unwrap()).is_ok());
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
