//! From an uploaded photo to its analysis, through a real worker with the real models.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Member, World, eventually, project_root};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use uuid::Uuid;

const STEPS: [&str; 5] = ["preprocess", "classify", "extract_attributes", "detect_defects", "describe"];

fn photo(name: &str) -> PathBuf {
    project_root().join("tests/images").join(name)
}

async fn ended(member: &Member, job: &str) -> Value {
    eventually(&format!("job {job} to end"), async || {
        let job = member.client.get(&format!("/jobs/{job}")).await.expect(200);
        (job["status"] != "queued" && job["status"] != "processing").then_some(job)
    })
    .await
}

fn step<'a>(job: &'a Value, name: &str) -> &'a Value {
    job["steps"].as_array().unwrap().iter().find(|step| step["step_name"] == name).unwrap()
}

/// Uploaded images whose analysis was cancelled before it began.
async fn cancelled_images(member: &Member, product: &str, count: usize) -> Vec<String> {
    let mut images = Vec::new();
    for _ in 0..count {
        let (image, job) = member.analysed_image(product, &photo("rocket.jpg"), "image/jpeg").await;
        member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
        images.push(image);
    }
    images
}

fn details(answer: &Answer) -> Vec<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_is_analysed_in_five_steps_and_the_product_shows_it() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Espresso cup").await;
    let (image, job) = member.analysed_image(&product, &photo("rocket.jpg"), "image/jpeg").await;

    let waiting = member.client.get(&format!("/jobs/{job}")).await.expect(200);
    assert_eq!((&waiting["status"], &waiting["job_type"]), (&json!("queued"), &json!("single")));
    assert_eq!((&waiting["id"], &waiting["task_id"]), (&waiting["task_id"], &json!(job)));
    assert_eq!(waiting["total_images"], 1);
    let names: Vec<_> = waiting["steps"].as_array().unwrap().iter().map(|s| s["step_name"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    assert!(
        waiting["steps"].as_array().unwrap().iter().all(|s| s["status"] == "pending" && s["result_data"] == json!({}))
    );
    let pending = member.client.get(&format!("/analysis/{image}")).await.expect(200);
    assert_eq!((&pending["status"], &pending["classification_scores"]), (&json!("pending"), &json!({})));
    assert_eq!(member.client.get(&format!("/products/{product}")).await.expect(200)["status"], "processing");
    assert_eq!(member.client.post(&format!("/analysis/{image}/retry"), json!({})).await.error(409), "CONFLICT");

    let worker = world.worker(&["images"]).await;
    let done = ended(&member, &job).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!((&done["processed_images"], &done["failed_images"]), (&json!(1), &json!(0)));
    for name in STEPS {
        let step = step(&done, name);
        assert_eq!(step["status"], "completed", "{step}");
        assert!(step["duration_ms"].as_i64().unwrap() >= 0 && step["started_at"].is_string());
        assert!(!step["result_data"].as_object().unwrap().is_empty(), "{step}");
        assert_eq!(step["id"], self::step(&waiting, name)["id"], "a step keeps its id");
    }
    assert_eq!(member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.error(409), "CONFLICT");

    let analysis = member.client.get(&format!("/analysis/{image}")).await.expect(200);
    assert_eq!((&analysis["status"], &analysis["product_image_id"]), (&json!("completed"), &json!(image)));
    assert!(analysis["classification_scores"].as_object().unwrap().len() >= 2);
    assert!((0.0..=1.0).contains(&analysis["classification_confidence"].as_f64().unwrap()));
    assert!(analysis["model_version"].as_str().unwrap().len() > 1);
    assert!(analysis["processing_time_ms"].as_i64().unwrap() >= 0);
    let attributes = analysis["extracted_attributes"].as_array().unwrap();
    assert!(attributes.iter().any(|attribute| attribute["attribute_name"] == "color"), "{attributes:?}");
    assert!(analysis["detected_defects"].is_array() && analysis["error_message"].is_null());

    let shown = member.client.get(&format!("/products/{product}")).await.expect(200);
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["ai_description"], analysis["description_text"]);
    let shown_image = &shown["images"][0];
    assert_eq!((&shown_image["width"], &shown_image["height"]), (&json!(640), &json!(427)));
    let list = member.client.get(&format!("/products/{product}/analysis")).await.expect(200);
    assert_eq!(list["data"], json!([analysis]));

    let stats = member.client.get("/dashboard/stats").await.expect(200);
    assert_eq!(
        (&stats["total_products"], &stats["total_images"], &stats["completed_analyses"], &stats["active_jobs"]),
        (&json!(1), &json!(1), &json!(1), &json!(0))
    );
    assert_eq!(stats["total_defects"], analysis["detected_defects"].as_array().unwrap().len());
    assert_eq!(stats["avg_processing_time_ms"].as_f64(), analysis["processing_time_ms"].as_f64());

    let retried = member.client.post(&format!("/analysis/{image}/retry"), json!({})).await.expect(200);
    assert_eq!(retried["message"], "Analysis retry started");
    let again = ended(&member, retried["job_id"].as_str().unwrap()).await;
    assert_eq!((&again["job_type"], &again["status"]), (&json!("retry"), &json!("completed")));
    let overwritten = member.client.get(&format!("/analysis/{image}")).await.expect(200);
    assert_eq!(overwritten["id"], analysis["id"], "one analysis per image");
    assert_eq!(overwritten["classification_scores"], analysis["classification_scores"]);
    assert_eq!(member.client.get(&format!("/products/{product}")).await.expect(200)["status"], "active");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_image_fails_in_preprocess_and_the_product_is_what_it_was() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let worker = world.worker(&["images"]).await;
    let (image, job) = member.analysed_image(&product, &photo("bad/text.jpg"), "image/jpeg").await;
    let failed = ended(&member, &job).await;
    assert_eq!((&failed["status"], &failed["failed_images"]), (&json!("failed"), &json!(1)), "{failed}");
    assert!(!failed["error_message"].as_str().unwrap().is_empty());
    let preprocess = step(&failed, "preprocess");
    assert_eq!(preprocess["status"], "failed");
    assert!(!preprocess["error_message"].as_str().unwrap().is_empty());
    assert_eq!(step(&failed, "classify")["status"], "pending");
    let analysis = member.client.get(&format!("/analysis/{image}")).await.expect(200);
    assert_eq!((&analysis["status"], &analysis["classification_label"]), (&json!("failed"), &Value::Null));
    assert_eq!(member.client.get(&format!("/products/{product}")).await.expect(200)["status"], "draft");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_completes_with_its_good_images_and_tells_of_the_bad_ones() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let mut images = Vec::new();
    for (name, content_type) in
        [("rocket.jpg", "image/jpeg"), ("bad/truncated.jpg", "image/jpeg"), ("coffee.png", "image/png")]
    {
        let (image, job) = member.analysed_image(&product, &photo(name), content_type).await;
        member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
        images.push(image);
    }
    let batch = member.client.post("/batch", json!({ "product_id": product, "image_ids": images })).await.expect(201);
    assert_eq!((&batch["job_type"], &batch["status"]), (&json!("batch"), &json!("queued")));
    assert_eq!((&batch["total_images"], &batch["processed_images"]), (&json!(3), &json!(0)));
    let path = format!("/batch/{}", batch["id"].as_str().unwrap());
    assert_eq!(member.client.get(&path).await.expect(200), batch);

    let worker = world.worker(&["images"]).await;
    let done = ended(&member, batch["id"].as_str().unwrap()).await;
    assert_eq!(
        (&done["status"], &done["processed_images"], &done["failed_images"]),
        (&json!("completed"), &json!(2), &json!(1)),
        "{done}"
    );
    let preprocess = step(&done, "preprocess");
    assert_eq!(preprocess["status"], "failed");
    assert!(preprocess["error_message"].as_str().unwrap().starts_with("1 of 3 images failed"), "{preprocess}");
    let results = preprocess["result_data"]["images"].as_object().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[&images[1]]["error_message"].is_string() && results[&images[0]]["width"] == 640, "{results:?}");
    assert_eq!(step(&done, "describe")["status"], "completed");
    assert_eq!(step(&done, "describe")["result_data"]["images"].as_object().unwrap().len(), 2);
    assert_eq!(member.client.delete(&path).await.error(409), "CONFLICT");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_names_every_image_that_it_cannot_take() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let (good, job) = member.analysed_image(&product, &photo("rocket.jpg"), "image/jpeg").await;
    let pending = member.uploaded_image(&product, &photo("rocket.jpg"), "image/jpeg").await;
    let unknown = Uuid::now_v7().to_string();
    let batch =
        async |ids: Value| member.client.post("/batch", json!({ "product_id": product, "image_ids": ids })).await;

    let answer = batch(json!([good, pending, unknown])).await;
    assert_eq!(details(&answer), ["image_ids[1]", "image_ids[2]"]);
    assert_eq!(answer.error(422), "UNPROCESSABLE_ENTITY");
    for ids in [json!([]), json!([good, good]), json!(vec![unknown; 101]), json!("all")] {
        let answer = batch(ids).await;
        assert_eq!(details(&answer), ["image_ids"]);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    let elsewhere = json!({ "product_id": Uuid::now_v7(), "image_ids": [good] });
    assert_eq!(member.client.post("/batch", elsewhere).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(member.client.get("/jobs").await.expect(200)["pagination"]["total"], 1);
    assert_eq!(member.client.get(&format!("/batch/{job}")).await.error(404), "RESOURCE_NOT_FOUND", "not a batch");
    member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_that_waited_ends_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let (image, job) = member.analysed_image(&product, &photo("rocket.jpg"), "image/jpeg").await;
    let cancelled = member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["completed_at"].is_string());
    assert_eq!(member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.error(409), "CONFLICT");
    assert_eq!(member.client.get(&format!("/analysis/{image}")).await.expect(200)["status"], "failed");
    assert_eq!(member.client.get(&format!("/products/{product}")).await.expect(200)["status"], "draft");

    let batch = member.client.post("/batch", json!({ "product_id": product, "image_ids": [image] })).await.expect(201);
    let path = format!("/batch/{}", batch["id"].as_str().unwrap());
    member.client.delete(&path).await.expect(204);
    assert_eq!(member.client.get(&path).await.expect(200)["status"], "cancelled");
    assert_eq!(member.client.delete(&path).await.error(409), "CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_the_dashboard_are_listed_in_the_words_of_clients() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let empty = member.client.get("/dashboard/stats").await.expect(200);
    for key in [
        "total_products",
        "total_images",
        "completed_analyses",
        "total_defects",
        "active_jobs",
        "avg_processing_time_ms",
    ] {
        assert_eq!(empty[key].as_f64(), Some(0.0), "{key}");
    }
    for (title, category) in
        [("Mug", Some("kitchen")), ("Cup", Some("kitchen")), ("Lamp", None), ("Sock", Some("clothes"))]
    {
        member.client.post("/products", json!({ "title": title, "category": category })).await.expect(201);
    }
    let product = member.product("Spoon").await;
    let (image, first) = member.analysed_image(&product, &photo("rocket.jpg"), "image/jpeg").await;
    member.client.post(&format!("/jobs/{first}/cancel"), json!({})).await.expect(200);
    let batch = member.client.post("/batch", json!({ "product_id": product, "image_ids": [image] })).await.expect(201);
    let second = batch["id"].as_str().unwrap();

    for (query, expected) in [
        ("", vec![second, &first]),
        ("?status=cancelled", vec![&first]),
        ("?status=queued,processing", vec![second]),
        ("?job_type=single", vec![&first]),
        ("?limit=1&offset=1", vec![&first]),
    ] {
        let list = member.client.get(&format!("/jobs{query}")).await.expect(200);
        let found: Vec<_> = list["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{query}");
        assert!(list["data"].as_array().unwrap().iter().all(|job| job["steps"].as_array().unwrap().len() == 5));
    }
    assert_eq!(member.client.get("/jobs?status=running").await.error(400), "VALIDATION_ERROR");

    let recent = member.client.get("/dashboard/recent").await.expect(200);
    assert_eq!(recent["pagination"]["limit"], 10);
    assert_eq!(
        recent["data"][0],
        json!({
            "id": second, "job_type": "batch", "status": "queued", "total_images": 1, "processed_images": 0,
            "created_at": batch["created_at"], "completed_at": null,
        })
    );
    assert_eq!(member.client.get("/dashboard/stats").await.expect(200)["active_jobs"], 1);
    let categories = member.client.get("/dashboard/category-distribution").await.expect(200);
    let counts: Vec<_> = categories["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["category"].as_str().unwrap(), c["count"].as_i64().unwrap()))
        .collect();
    assert_eq!(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(counts[2], ("clothes", 1));
    assert!(counts.contains(&("kitchen", 2)) && counts.contains(&("uncategorized", 2)));
    assert_eq!(categories["pagination"]["total"], 3);
    let sorted = member.client.get("/dashboard/category-distribution?sort_by=category&limit=2").await.expect(200);
    assert_eq!(sorted["data"], json!([{ "category": "clothes", "count": 1 }, { "category": "kitchen", "count": 2 }]));
    let cursor = sorted["pagination"]["next_cursor"].as_str().unwrap();
    let next = format!("/dashboard/category-distribution?sort_by=category&limit=2&cursor={cursor}");
    assert_eq!(
        member.client.get(&next).await.expect(200)["data"],
        json!([{ "category": "uncategorized", "count": 2 }])
    );
    member.client.delete(&format!("/batch/{second}")).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_batch_stops_soon_after_it_is_cancelled() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let images = cancelled_images(&member, &product, 12).await;
    let batch = member.client.post("/batch", json!({ "product_id": product, "image_ids": images })).await.expect(201);
    let path = format!("/batch/{}", batch["id"].as_str().unwrap());
    let worker = world.worker(&["images"]).await;
    eventually("the batch to run", async || {
        let job = member.client.get(&path).await.expect(200);
        (job["status"] == "processing" && job["processed_images"] != 0).then_some(())
    })
    .await;
    let asked = Instant::now();
    member.client.delete(&path).await.expect(204);
    let stopped = ended(&member, batch["id"].as_str().unwrap()).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    assert_eq!(stopped["status"], "cancelled");
    assert!(stopped["processed_images"].as_i64().unwrap() < 12, "{stopped}");
    let analyses = member.client.get(&format!("/products/{product}/analysis?limit=100")).await.expect(200);
    let statuses: Vec<_> = analyses["data"].as_array().unwrap().iter().map(|a| a["status"].as_str().unwrap()).collect();
    assert!(statuses.iter().all(|status| ["completed", "failed"].contains(status)), "{statuses:?}");
    // what was finished stays
    let completed = statuses.iter().filter(|status| **status == "completed").count();
    assert_eq!(stopped["processed_images"], completed);
    world.drain().await;
    worker.stop().await;
}

/// The deletion wins, whichever of the two comes first.
async fn delete_while_confirming(member: &Member, product: &str) {
    let late = member.uploaded_image(product, &photo("rocket.jpg"), "image/jpeg").await;
    let path = format!("/products/{product}");
    let (confirmed, deleted) =
        tokio::join!(member.client.post("/uploads/confirm", json!({ "image_id": late })), member.client.delete(&path));
    deleted.expect(204);
    assert!(confirmed.status == 200 || confirmed.status == 404, "{}", confirmed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn products_deleted_while_they_are_analysed_stop_their_jobs_and_block_nobody() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let _scheduler = world.scheduler().await;
    let worker = world.worker(&["images"]).await;
    let mut doomed = Vec::new();
    for _ in 0..6 {
        let product = member.product("Mug").await;
        for _ in 0..2 {
            member.analysed_image(&product, &photo("rocket.jpg"), "image/jpeg").await;
        }
        doomed.push(product);
    }
    let deletions = doomed.iter().map(|product| delete_while_confirming(&member, product));
    futures_util::future::join_all(deletions).await;
    world.drain().await;
    assert_eq!(member.client.get("/products").await.expect(200)["pagination"]["total"], 0);
    let jobs = member.client.get("/jobs?limit=100").await.expect(200);
    let failed: Vec<_> = jobs["data"].as_array().unwrap().iter().filter(|job| job["status"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    worker.stop().await;
}
