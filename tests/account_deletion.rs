//! The end of an account: what goes, what stays, and who cannot go.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;
use harness::{Answer, Member, World, project_root};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

async fn lines(world: &World, query: String) -> Vec<String> {
    let lines: Vec<Line> = diesel::sql_query(query).load(&mut world.conn().await).await.unwrap();
    lines.into_iter().map(|Line { line }| line).collect()
}

async fn delete(member: &Member, password: &str) -> Answer {
    let request = member.client.request(Method::DELETE, "/api/v1/users/me").json(&json!({ "password": password }));
    member.client.send(request).await
}

/// Tables with a row that names this id in any column of type uuid.
async fn tables_that_name(world: &World, id: Uuid) -> Vec<String> {
    let columns = lines(
        world,
        "SELECT table_name || '.' || column_name AS line FROM information_schema.columns \
         WHERE table_schema = 'public' AND data_type = 'uuid' ORDER BY 1"
            .to_owned(),
    )
    .await;
    let mut found = Vec::new();
    for column in columns {
        let (table, name) = column.split_once('.').unwrap();
        let query = format!("SELECT '{column}' AS line FROM {table} WHERE {name} = '{id}' LIMIT 1");
        found.extend(lines(world, query).await);
    }
    found
}

/// A product with an analysed image and a batch over it, a pipeline with a schedule and a run; returns the run.
async fn work(member: &Member) -> (String, String) {
    let product = member.product("Mug").await;
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, _) = member.analysed_image(&product, &file, "image/jpeg").await;
    member.client.post("/batch", json!({ "product_id": product, "image_ids": [image] })).await.expect(201);
    let body = json!({
        "name": "Shout",
        "nodes": [{ "id": "in", "type": "input" }, { "id": "out", "type": "output" }],
        "connections": [{ "source": "in", "target": "out" }],
    });
    let pipeline = member.client.post("/pipelines", body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let schedule = json!({ "cron": "0 3 * * *", "inputs": { "in": { "text": "x" } } });
    member.client.post(&format!("/pipelines/{pipeline}/schedules"), schedule).await.expect(201);
    let run = json!({ "inputs": { "in": { "text": "hello" } } });
    let run = member.client.post(&format!("/pipelines/{pipeline}/run"), run).await.expect(202);
    (pipeline, run["execution_id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_goes_with_everything_that_is_only_its_own() {
    let world = World::new().await;
    let api = world.api().await;
    let user = world.member(&api).await;
    work(&user).await;
    user.client.post("/organizations", json!({ "name": "Another" })).await.expect(201);
    let (id, organization) = (user.id(), user.organization_id());
    let used = format!(
        "INSERT INTO quota_windows (scope, period, starts, used) VALUES ('{id}', 'daily', '2026-01-01', 1), \
             ('{organization}', 'monthly', '2026-01-01', 1) ON CONFLICT DO NOTHING; \
         INSERT INTO idempotency_keys (user_id, route, hash, owner) VALUES ('{id}', 'POST /products', '\\x01', '{id}'); \
         INSERT INTO chat_entries (id, user_id, message, response, model) VALUES (gen_random_uuid(), '{id}', 'a', 'b', 'c')"
    );
    world.run_sql(&used).await;
    assert!(tables_that_name(&world, id).await.len() > 10);

    for (body, status, code) in [
        (json!({}), 400, "VALIDATION_ERROR"),
        (json!({ "password": "" }), 400, "VALIDATION_ERROR"),
        (json!({ "password": "wrong" }), 401, "INVALID_CREDENTIALS"),
    ] {
        let request = user.client.request(Method::DELETE, "/api/v1/users/me").json(&body);
        assert_eq!(user.client.send(request).await.error(status), code);
    }
    delete(&user, &user.password).await.expect(204);
    assert_eq!(tables_that_name(&world, id).await, Vec::<String>::new());
    assert_eq!(tables_that_name(&world, organization).await, Vec::<String>::new());
    assert_eq!(lines(&world, "SELECT id::text AS line FROM organizations".to_owned()).await.len(), 0);
    let objects = lines(&world, "SELECT key AS line FROM object_deletions".to_owned()).await;
    assert_eq!(objects.len(), 2, "the image and its thumbnail: {objects:?}");
    assert_eq!(user.client.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED");
    let login = json!({ "email": user.email, "password": user.password });
    assert_eq!(world.client(&api).post("/auth/login", login).await.error(401), "INVALID_CREDENTIALS");
    // the address is free again
    let again = json!({ "email": user.email, "password": user.password });
    world.client(&api).post("/auth/register", again).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_organization_shares_stays_with_an_admin() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let user = world.colleague(&api, &admin, "member").await;
    let (id, organization) = (user.id(), admin.organization_id());
    let (pipeline, execution) = work(&user).await;
    let sent = admin.invite("guest@example.com", "member").await;
    let used = format!(
        "INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, status) \
         VALUES (gen_random_uuid(), '{organization}', '{id}', gen_random_uuid(), '/chat', 'gpt-4', 'completed')"
    );
    world.run_sql(&used).await;
    delete(&user, &user.password).await.expect(204);

    // in the log of changes it is what it was about, and nothing else names it
    assert_eq!(tables_that_name(&world, id).await, ["audit_entries.target_id"]);
    assert_eq!(tables_that_name(&world, user.organization_id()).await, Vec::<String>::new());
    let kept = admin.client.get(&format!("/pipelines/{pipeline}")).await.expect(200);
    assert_eq!(kept["created_by"], json!(admin.id()));
    let run = admin.client.get(&format!("/executions/{execution}")).await.expect(200);
    assert_eq!(run["status"], "cancelled");
    let schedules = admin.client.get(&format!("/pipelines/{pipeline}/schedules")).await.expect(200);
    assert_eq!((&schedules["pagination"]["total"], &schedules["data"][0]["enabled"]), (&json!(1), &json!(true)));
    let records = lines(
        &world,
        format!("SELECT COALESCE(user_id::text, 'nobody') AS line FROM usage_records WHERE organization_id = '{organization}'"),
    )
    .await;
    assert_eq!(records, ["nobody"]);
    let log = admin.client.get("/organizations/current/audit?action=member.left").await.expect(200);
    let entry = &log["data"][0];
    assert_eq!((&entry["actor_id"], &entry["target_id"]), (&Value::Null, &json!(id)));
    assert_eq!(entry["data"], json!({ "account_deleted": true, "role": "member" }));
    let members = admin.client.get("/organizations/current/members").await.expect(200);
    assert_eq!(members["pagination"]["total"], 1);
    assert!(sent["id"].is_string());
    world.take_mails().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_among_others_cannot_go_until_there_is_another() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let member = world.colleague(&api, &admin, "member").await;
    // wherever the admin works at the moment
    let other = admin.client.post("/organizations", json!({ "name": "Elsewhere" })).await.expect(201);
    admin.client.post(&format!("/organizations/{}/switch", other["id"].as_str().unwrap()), json!({})).await.expect(200);
    let refused = delete(&admin, &admin.password).await;
    assert!(refused.text.contains("last admin"), "{}", refused.text);
    assert_eq!(refused.error(409), "CONFLICT");
    admin.client.get("/users/me").await.expect(200);
    assert_eq!(admin.client.get("/organizations").await.expect(200)["pagination"]["total"], 2);

    let home = format!("/organizations/{}/switch", admin.organization_id());
    admin.client.post(&home, json!({})).await.expect(200);
    let path = format!("/organizations/current/members/{}", member.id());
    admin.client.put(&path, json!({ "role": "admin" })).await.expect(200);
    delete(&admin, &admin.password).await.expect(204);
    assert_eq!(member.place().await, ("admin".to_owned(), admin.organization_id()));
    assert_eq!(tables_that_name(&world, other["id"].as_str().unwrap().parse().unwrap()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_way_is_asked_to_stop_and_ends_for_the_others_to_see() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let user = world.colleague(&api, &admin, "member").await;
    let (_, execution) = work(&user).await;
    let hand = world.take(execution.parse().unwrap()).await;
    delete(&user, &user.password).await.expect(204);
    let job = world.job(execution.parse().unwrap()).await;
    assert!(job.cancel_requested && job.user_id == admin.id());
    hand.stop().await;
    let run = admin.client.get(&format!("/executions/{execution}")).await.expect(200);
    assert_eq!(run["status"], "cancelled");
}
