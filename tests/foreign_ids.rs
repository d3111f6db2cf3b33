//! What belongs to one user does not exist for another.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{World, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn another_users_ids_are_not_found_anywhere() {
    let world = World::new().await;
    let api = world.api().await;
    let owner = world.member(&api).await;
    let other = world.member(&api).await;
    let product = owner.product("Mug").await;
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, job) = owner.analysed_image(&product, &file, "image/jpeg").await;
    let announced = owner.uploaded_image(&product, &file, "image/jpeg").await;
    let batch = json!({ "product_id": product, "image_ids": [image] });
    let batch_job = owner.client.post("/batch", batch.clone()).await.expect(201)["id"].as_str().unwrap().to_owned();

    let announcement = json!({
        "product_id": product, "filename": "mug.jpg", "content_type": "image/jpeg", "file_size_bytes": 1,
    });
    let requests: Vec<(Method, String, Value)> = vec![
        (Method::GET, format!("/products/{product}"), Value::Null),
        (Method::PATCH, format!("/products/{product}"), json!({ "title": "Mine" })),
        (Method::PUT, format!("/products/{product}"), json!({ "title": "Mine" })),
        (Method::DELETE, format!("/products/{product}"), Value::Null),
        (Method::GET, format!("/products/{product}/analysis"), Value::Null),
        (Method::PUT, format!("/products/{product}/images/{image}"), json!({ "is_primary": true })),
        (Method::DELETE, format!("/products/{product}/images/{image}"), Value::Null),
        (Method::POST, "/uploads/presigned-url".to_owned(), announcement),
        (Method::POST, "/uploads/confirm".to_owned(), json!({ "image_id": image })),
        (Method::POST, "/uploads/confirm".to_owned(), json!({ "image_id": announced })),
        (Method::GET, format!("/analysis/{image}"), Value::Null),
        (Method::POST, format!("/analysis/{image}/retry"), json!({})),
        (Method::POST, "/batch".to_owned(), batch),
        (Method::GET, format!("/batch/{batch_job}"), Value::Null),
        (Method::DELETE, format!("/batch/{batch_job}"), Value::Null),
        (Method::GET, format!("/jobs/{job}"), Value::Null),
        (Method::POST, format!("/jobs/{job}/cancel"), json!({})),
    ];
    for (method, path, body) in requests {
        let request = other.client.request(method.clone(), &format!("/api/v1{path}"));
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = other.client.send(request).await;
        assert_eq!(answer.status.as_u16(), 404, "{method} {path}: {}", answer.text);
        assert_eq!(answer.error(404), "RESOURCE_NOT_FOUND");
    }
    let form = Form::new().text("product_id", product.clone());
    let form = form.part("file", Part::bytes(vec![1]).file_name("mug.png").mime_str("image/png").unwrap());
    let request = other.client.request(Method::POST, "/api/v1/uploads/direct").multipart(form);
    other.client.send(request).await.error(404);
    let (frames, code) = other.client.follow(&job, "").await;
    assert_eq!((frames.len(), code), (0, 4003));

    // an image of another product of one's own is as foreign to this one
    let own = other.product("Cup").await;
    let mixed = json!({ "product_id": own, "image_ids": [image] });
    assert_eq!(other.client.post("/batch", mixed).await.error(422), "UNPROCESSABLE_ENTITY");
    let second = owner.product("Cup").await;
    owner.client.delete(&format!("/products/{second}/images/{image}")).await.error(404);

    for list in ["/jobs", "/dashboard/recent"] {
        assert_eq!(other.client.get(list).await.expect(200)["pagination"]["total"], 0);
    }
    assert_eq!(other.client.get("/dashboard/stats").await.expect(200)["total_images"], 0);
    let untouched = owner.client.get(&format!("/products/{product}")).await.expect(200);
    assert_eq!((&untouched["title"], untouched["images"].as_array().unwrap().len()), (&json!("Mug"), 2));
    owner.client.delete(&format!("/products/{product}")).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answers_without_a_token() {
    let world = World::new().await;
    let api = world.api().await;
    let anonymous = world.client(&api);
    for path in ["/products", "/jobs", "/dashboard/stats", "/dashboard/recent", "/dashboard/category-distribution"] {
        assert_eq!(anonymous.get(path).await.error(401), "AUTHENTICATION_REQUIRED");
    }
    for path in ["/products", "/uploads/presigned-url", "/uploads/confirm", "/uploads/direct", "/batch"] {
        assert_eq!(anonymous.post(path, json!({})).await.error(401), "AUTHENTICATION_REQUIRED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_refused_before_anything_else_is_looked_at() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    member.client.post("/auth/logout", json!({})).await.expect(200);
    for path in ["/products/no-id", "/products?limit=0", "/jobs?status=lost", "/analysis/no-id"] {
        assert_eq!(member.client.get(path).await.error(401), "AUTHENTICATION_REQUIRED", "{path}");
    }
    let wrong = json!({ "email": 5, "title": 5 });
    for path in ["/products", "/batch", "/uploads/presigned-url", "/uploads/confirm", "/jobs/no-id/cancel"] {
        let answer = member.client.post(path, wrong.clone()).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"atelier\"");
        assert_eq!(answer.error(401), "AUTHENTICATION_REQUIRED", "{path}");
    }
    for path in ["/users/me", "/auth/password", "/products/no-id"] {
        assert_eq!(member.client.put(path, wrong.clone()).await.error(401), "AUTHENTICATION_REQUIRED", "{path}");
    }
    let huge = json!({ "title": "x".repeat(2 << 20) });
    assert_eq!(member.client.post("/products", huge).await.error(401), "AUTHENTICATION_REQUIRED");
}
