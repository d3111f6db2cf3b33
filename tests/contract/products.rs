//! Products, photos, and what is found in them.

use super::{ask, get, list};
use harness::{Member, World, project_root};
use reqwest::Method;
use serde_json::{Value, json};

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

async fn upload(member: &Member, product: &str, file: &str, content_type: &str) -> (String, String) {
    let file = project_root().join("tests/images").join(file);
    let (image, job) = member.analysed_image(product, &file, content_type).await;
    member.client.follow(&job, "").await;
    (image, job)
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
