//! Uploads by presigned URL and directly, and what of them is refused.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Member, World, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

const LIMIT: usize = 50 * 1024 * 1024;

fn photo() -> Vec<u8> {
    std::fs::read(project_root().join("tests/images/rocket.jpg")).unwrap()
}

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn file(bytes: Vec<u8>, content_type: &str) -> Part {
    Part::bytes(bytes).file_name("photos/mug.jpg").mime_str(content_type).unwrap()
}

async fn direct(member: &Member, form: Form) -> Answer {
    let request = member.client.request(Method::POST, "/api/v1/uploads/direct").multipart(form);
    member.client.send(request).await
}

async fn cancel(member: &Member, accepted: &Value) {
    let job = accepted["job_id"].as_str().unwrap();
    member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
}

async fn images(member: &Member, product: &str) -> Vec<Value> {
    let product = member.client.get(&format!("/products/{product}")).await.expect(200);
    product["images"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_image_is_listed_uploaded_confirmed_and_can_be_fetched() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let bytes = photo();
    let announcement = json!({
        "product_id": product, "filename": "../Mein Becher.jpg", "content_type": "image/jpeg",
        "file_size_bytes": bytes.len(),
    });
    let announced = member.client.post("/uploads/presigned-url", announcement).await.expect(200);
    assert_eq!(announced["expires_in"], 3600);
    let key = announced["s3_key"].as_str().unwrap();
    let user = member.registration["id"].as_str().unwrap();
    assert!(key.starts_with(&format!("products/{user}/{product}/")) && key.ends_with("_Mein_Becher.jpg"), "{key}");
    let listed = images(&member, &product).await;
    assert_eq!(listed[0]["id"], announced["image_id"]);
    assert_eq!(
        (&listed[0]["upload_status"], &listed[0]["is_primary"], &listed[0]["original_filename"]),
        (&json!("pending"), &json!(false), &json!("Mein Becher.jpg"))
    );

    let confirm = json!({ "image_id": announced["image_id"] });
    assert_eq!(member.client.post("/uploads/confirm", confirm.clone()).await.error(409), "CONFLICT");
    let url = announced["upload_url"].as_str().unwrap();
    assert_eq!(member.client.upload(url, bytes.clone(), "image/jpeg").await, 200);
    let confirmed = member.client.post("/uploads/confirm", confirm.clone()).await.expect(200);
    assert_eq!(confirmed["image_id"], announced["image_id"]);
    assert_eq!((&confirmed["status"], &confirmed["message"]), (&json!("queued"), &json!("Image processing started")));
    assert_eq!(member.client.post("/uploads/confirm", confirm).await.expect(200), confirmed, "the same job again");
    assert_eq!(member.client.get("/jobs").await.expect(200)["pagination"]["total"], 1);

    let listed = images(&member, &product).await;
    assert_eq!((&listed[0]["upload_status"], &listed[0]["is_primary"]), (&json!("uploaded"), &json!(true)));
    let fetched = reqwest::get(listed[0]["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(fetched.headers()["content-type"], "image/jpeg");
    assert_eq!(fetched.bytes().await.unwrap(), bytes);
    let bare = listed[0]["url"].as_str().unwrap().split('?').next().unwrap();
    assert_eq!(reqwest::get(bare).await.unwrap().status(), 403);
    cancel(&member, &confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_confirmations_at_once_start_one_job() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let path = project_root().join("tests/images/rocket.jpg");
    let image = member.uploaded_image(&product, &path, "image/jpeg").await;
    let confirm = async || member.client.post("/uploads/confirm", json!({ "image_id": image })).await.expect(200);
    let (one, two, three) = tokio::join!(confirm(), confirm(), confirm());
    assert_eq!((&one["job_id"], &two["job_id"]), (&two["job_id"], &three["job_id"]));
    cancel(&member, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_url_takes_nothing_but_what_was_announced() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let announce = |size: usize| {
        json!({
            "product_id": product, "filename": "mug.jpg", "content_type": "image/jpeg", "file_size_bytes": size,
        })
    };
    let announced = member.client.post("/uploads/presigned-url", announce(10)).await.expect(200);
    let url = announced["upload_url"].as_str().unwrap();
    assert_eq!(member.client.upload(url, vec![0; 11], "image/jpeg").await, 400, "more than announced");
    let forged = url.replace("x-announced-bytes=10", "x-announced-bytes=11");
    assert_ne!(forged, url);
    assert_eq!(member.client.upload(&forged, vec![0; 11], "image/jpeg").await, 403, "a changed announcement");
    assert_eq!(member.client.upload(url, vec![0; 10], "image/png").await, 403, "another type");
    let forged = url.replacen("X-Amz-Signature=", "X-Amz-Signature=0", 1);
    assert!(member.client.upload(&forged, vec![0; 10], "image/jpeg").await.is_client_error());
    let confirm = json!({ "image_id": announced["image_id"] });
    assert_eq!(member.client.post("/uploads/confirm", confirm).await.error(409), "CONFLICT");

    for size in [0, LIMIT + 1] {
        let answer = member.client.post("/uploads/presigned-url", announce(size)).await;
        assert_eq!(fields(&answer), BTreeSet::from(["file_size_bytes"]));
        answer.error(400);
    }
    let wrong = json!({ "product_id": "mug", "filename": "", "content_type": "image/tiff" });
    let answer = member.client.post("/uploads/presigned-url", wrong).await;
    assert_eq!(fields(&answer), BTreeSet::from(["content_type", "file_size_bytes", "filename", "product_id"]));
    let unknown = json!({
        "product_id": Uuid::now_v7(), "filename": "mug.jpg", "content_type": "image/gif", "file_size_bytes": 1,
    });
    assert_eq!(member.client.post("/uploads/presigned-url", unknown).await.error(404), "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_upload_starts_an_analysis_whatever_the_order_of_its_parts() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let bytes = photo();
    let first = Form::new().text("product_id", product.clone()).part("file", file(bytes.clone(), "image/jpeg"));
    let second = Form::new()
        .part("file", file(bytes.clone(), "application/octet-stream"))
        .text("note", "not asked for")
        .text("product_id", product.clone());
    for form in [first, second] {
        let accepted = direct(&member, form).await.expect(200);
        assert_eq!(accepted["status"], "queued");
        assert_eq!(accepted["message"], "Image uploaded and processing started");
        let image = images(&member, &product).await.into_iter().find(|i| i["id"] == accepted["image_id"]).unwrap();
        assert_eq!(image["upload_status"], "uploaded");
        assert_eq!(image["original_filename"], "mug.jpg");
        assert_eq!(image["content_type"], "image/jpeg");
        assert_eq!(image["file_size_bytes"], bytes.len());
        let fetched = reqwest::get(image["url"].as_str().unwrap()).await.unwrap().bytes().await.unwrap();
        assert_eq!(fetched, bytes);
        cancel(&member, &accepted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_upload_that_cannot_be_used_leaves_nothing_behind() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let id = || Form::new().text("product_id", product.clone());
    for (form, expected) in [
        (Form::new().text("note", "nothing"), vec!["file", "product_id"]),
        (id(), vec!["file"]),
        (id().part("file", file(Vec::new(), "image/jpeg")), vec!["file"]),
        (id().part("file", file(b"text".to_vec(), "text/plain")), vec!["file"]),
        (id().part("file", file(vec![0; LIMIT + 1], "image/jpeg")), vec!["file"]),
        (Form::new().text("product_id", "mug").part("file", file(photo(), "image/jpeg")), vec!["product_id"]),
    ] {
        let answer = direct(&member, form).await;
        assert_eq!(fields(&answer), expected.into_iter().collect());
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    let elsewhere = Form::new().text("product_id", Uuid::now_v7().to_string());
    assert_eq!(
        direct(&member, elsewhere.part("file", file(photo(), "image/jpeg"))).await.error(404),
        "RESOURCE_NOT_FOUND"
    );
    assert_eq!(member.client.post("/uploads/direct", json!({})).await.error(400), "VALIDATION_ERROR");
    assert_eq!(images(&member, &product).await, Vec::<Value>::new());
    assert_eq!(member.client.get("/jobs").await.expect(200)["pagination"]["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_store_is_told_as_such_and_leaves_no_image() {
    let world = World::new().await;
    // nothing listens on port 9 of the loopback
    let api = world.api_with(&[("ATELIER_S3_ENDPOINT", "http://127.0.0.1:9")]).await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let form = Form::new().text("product_id", product.clone()).part("file", file(photo(), "image/jpeg"));
    assert_eq!(direct(&member, form).await.error(502), "INTEGRATION_ERROR");
    assert_eq!(images(&member, &product).await, Vec::<Value>::new());
    let announcement = json!({
        "product_id": product, "filename": "mug.jpg", "content_type": "image/jpeg", "file_size_bytes": 10,
    });
    let announced = member.client.post("/uploads/presigned-url", announcement).await.expect(200);
    let confirm = json!({ "image_id": announced["image_id"] });
    assert_eq!(member.client.post("/uploads/confirm", confirm).await.error(502), "INTEGRATION_ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_with_two_files_is_refused_rather_than_losing_one() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let form = Form::new().text("product_id", product.clone());
    let form = form.part("file", file(photo(), "image/jpeg")).part("file", file(photo(), "image/jpeg"));
    let answer = direct(&member, form).await;
    assert_eq!(fields(&answer), BTreeSet::from(["file"]));
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    assert_eq!(images(&member, &product).await.len(), 0);
}
