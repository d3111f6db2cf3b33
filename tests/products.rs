//! Products and their images, as their owner uses them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;
use harness::{Answer, Member, World, project_root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Text)]
    key: String,
}

async fn deleted_objects(world: &World) -> BTreeSet<String> {
    let rows: Vec<Key> =
        diesel::sql_query("SELECT key FROM object_deletions").load(&mut world.conn().await).await.unwrap();
    rows.into_iter().map(|row| row.key).collect()
}

fn fields(answer: &Answer) -> Vec<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|element| element["id"].as_str().unwrap()).collect()
}

/// An image that counts as uploaded and has no job: its upload was confirmed, and the analysis cancelled.
async fn settled_image(member: &Member, product: &str) -> String {
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, job) = member.analysed_image(product, &file, "image/jpeg").await;
    member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_has_every_documented_field_and_its_metadata_under_both_names() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let sent = json!({
        "title": "Mug", "description": "Blue", "category": "kitchen", "metadata": { "weight": 5 }, "unknown": true,
    });
    let made = member.client.post("/products", sent).await.expect(201);
    assert_eq!(made["title"], "Mug");
    assert_eq!(made["user_id"], member.registration["id"]);
    assert_eq!(made["status"], "draft");
    assert_eq!(made["metadata"], json!({ "weight": 5 }));
    assert_eq!(made["metadata_"], made["metadata"]);
    assert_eq!(made["images"], json!([]));
    for null in ["subcategory", "ai_description"] {
        assert!(made[null].is_null() && made.get(null).is_some(), "{null} is there and null");
    }
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));
    let id = made["id"].as_str().unwrap();
    assert_eq!(member.client.get(&format!("/products/{id}")).await.expect(200), made);
    let list = member.client.get("/products").await.expect(200);
    assert_eq!(list["data"], json!([made]));
    assert_eq!(list["pagination"]["total"], 1);
    let by_other_name = json!({ "title": "Cup", "metadata_": { "a": [1] } });
    assert_eq!(member.client.post("/products", by_other_name).await.expect(201)["metadata"], json!({ "a": [1] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_product_is_told_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let wrong = json!({
        "title": "", "category": "c".repeat(256), "status": "sold", "metadata": { "a": 1 }, "metadata_": { "a": 2 },
    });
    let answer = member.client.post("/products", wrong).await;
    let mut found = fields(&answer);
    found.sort_unstable();
    assert_eq!(found, ["category", "metadata_", "status", "title"]);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    for body in [json!({}), json!({ "title": "  " }), json!({ "title": 7 }), json!({ "title": "a\0b" })] {
        let answer = member.client.post("/products", body).await;
        assert_eq!(fields(&answer), ["title"]);
        answer.error(400);
    }
    let not_settable = member.client.post("/products", json!({ "title": "Mug", "status": "processing" })).await;
    assert_eq!(fields(&not_settable), ["status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_sent_changes_and_null_empties() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let sent = json!({ "title": "Mug", "description": "Blue", "category": "kitchen" });
    let made = member.client.post("/products", sent).await.expect(201);
    let path = format!("/products/{}", made["id"].as_str().unwrap());
    let changed = member.client.patch(&path, json!({ "category": null, "status": "active" })).await.expect(200);
    assert_eq!(
        (&changed["title"], &changed["description"], &changed["category"], &changed["status"]),
        (&json!("Mug"), &json!("Blue"), &Value::Null, &json!("active"))
    );
    let put = member.client.put(&path, json!({ "title": "Cup" })).await.expect(200);
    assert_eq!((&put["title"], &put["description"], &put["status"]), (&json!("Cup"), &json!("Blue"), &json!("active")));
    assert!(put["updated_at"].as_str() > made["updated_at"].as_str());
    let answer = member.client.patch(&path, json!({ "status": "processing" })).await;
    assert_eq!(fields(&answer), ["status"]);
    assert_eq!(member.client.get(&path).await.expect(200), put);
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_filtered_searched_and_sorted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let mut made = Vec::new();
    for (title, category, status) in
        [("Blue mug", "kitchen", "draft"), ("Red mug", "kitchen", "active"), ("100% wool", "clothes", "archived")]
    {
        let body = json!({ "title": title, "category": category, "status": status });
        made.push(member.client.post("/products", body).await.expect(201)["id"].as_str().unwrap().to_owned());
    }
    for (query, expected) in [
        ("", vec![2, 1, 0]),
        ("?sort=asc", vec![0, 1, 2]),
        ("?category=kitchen", vec![1, 0]),
        ("?status=active,archived", vec![2, 1]),
        ("?search=MUG%20red", vec![1]),
        ("?search=%25", vec![2]),
        ("?sort=-title", vec![1, 0, 2]),
        ("?page_size=1&page=2", vec![1]),
        ("?category=kitchen&status=archived", vec![]),
    ] {
        let list = member.client.get(&format!("/products{query}")).await.expect(200);
        let expected: Vec<_> = expected.into_iter().map(|index: usize| made[index].as_str()).collect();
        assert_eq!(ids(&list), expected, "{query}");
    }
    let answer = member.client.get("/products?status=sold&limit=0&sort=price").await;
    assert_eq!(fields(&answer).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["limit", "sort", "status"]));
    answer.error(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_uploaded_image_is_primary_until_another_is_or_it_is_deleted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let first = settled_image(&member, &product).await;
    let second = settled_image(&member, &product).await;
    let primary = async || {
        let shown = member.client.get(&format!("/products/{product}")).await.expect(200);
        let images = shown["images"].as_array().unwrap().clone();
        let mut primary = images.iter().filter(|image| image["is_primary"] == true);
        let id = primary.next().map(|image| image["id"].as_str().unwrap().to_owned());
        assert!(primary.next().is_none());
        id
    };
    assert_eq!(primary().await.as_ref(), Some(&first));
    let path = |image: &str| format!("/products/{product}/images/{image}");
    let image = member.client.put(&path(&second), json!({ "is_primary": true })).await.expect(200);
    assert_eq!((&image["id"], &image["is_primary"]), (&json!(second), &json!(true)));
    assert_eq!(primary().await.as_ref(), Some(&second));
    assert_eq!(member.client.put(&path(&first), json!({ "is_primary": false })).await.error(400), "VALIDATION_ERROR");
    let key = image["s3_key"].as_str().unwrap().to_owned();
    member.client.delete(&path(&second)).await.expect(204);
    assert_eq!(primary().await.as_ref(), Some(&first));
    assert!(deleted_objects(&world).await.contains(&key));
    member.client.delete(&path(&second)).await.error(404);
    member.client.delete(&path(&first)).await.expect(204);
    assert_eq!(primary().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_product_takes_its_images_analyses_jobs_and_objects_with_it() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, job) = member.analysed_image(&product, &file, "image/jpeg").await;
    let announced = member.uploaded_image(&product, &file, "image/jpeg").await;
    let shown = member.client.get(&format!("/products/{product}")).await.expect(200);
    assert_eq!(shown["status"], "processing");
    let keys: Vec<_> = shown["images"].as_array().unwrap().iter().map(|i| i["s3_key"].as_str().unwrap()).collect();

    member.client.delete(&format!("/products/{product}")).await.expect(204);
    for gone in [format!("/products/{product}"), format!("/products/{product}/analysis"), format!("/analysis/{image}")]
    {
        assert_eq!(member.client.get(&gone).await.error(404), "RESOURCE_NOT_FOUND");
    }
    assert_eq!(
        member.client.post("/uploads/confirm", json!({ "image_id": announced })).await.error(404),
        "RESOURCE_NOT_FOUND"
    );
    member.client.delete(&format!("/products/{product}")).await.error(404);
    assert_eq!(member.client.get(&format!("/jobs/{job}")).await.expect(200)["status"], "cancelled");
    let deleted = deleted_objects(&world).await;
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| deleted.contains(*key)), "{keys:?} are in {deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_no_uuid_or_unknown_is_not_found() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    for id in ["1", "mug", "%00", &Uuid::now_v7().to_string()] {
        assert_eq!(member.client.get(&format!("/products/{id}")).await.error(404), "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_metadata_come_back_to_the_last_digit() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let numbers = json!({
        "largest": f64::MAX, "least": f64::MIN, "smallest": 5e-324, "sum": 0.1 + 0.2, "price": 123456.78901234567,
        "count": u64::MAX, "debt": i64::MIN,
    });
    let made = member.client.post("/products", json!({ "title": "Mug", "metadata": numbers })).await.expect(201);
    assert_eq!(made["metadata"], numbers);
    let id = made["id"].as_str().unwrap();
    assert_eq!(member.client.get(&format!("/products/{id}")).await.expect(200)["metadata"], numbers);
    assert_eq!(member.client.get("/products").await.expect(200)["data"][0]["metadata"], numbers);
}
