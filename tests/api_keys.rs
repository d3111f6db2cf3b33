//! API keys: what they open, and when they stop.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::SinkExt;
use harness::{Answer, Client, Member, Socket, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use uuid::Uuid;

/// Makes a key with these permissions.
async fn make(member: &Member, permissions: &[&str]) -> Value {
    let body = json!({ "name": "Script", "permissions": permissions });
    member.client.post("/api-keys", body).await.expect(201)
}

/// Sends a request with a key and nothing else.
async fn with(client: &Client, key: &Value, method: Method, path: &str, body: Value) -> Answer {
    let request = client.anonymous().request(method, &format!("/api/v1{path}"));
    let request = request.header("x-api-key", key["key"].as_str().unwrap());
    client.send(if body.is_null() { request } else { request.json(&body) }).await
}

fn fields(body: &Value) -> Vec<&str> {
    let mut fields: Vec<_> =
        body["error"]["details"].as_array().unwrap().iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_kept_as_a_hash_only() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = make(&member, &["ai:read", "pipelines:read", "ai:read"]).await;
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sk_live_") && key.len() == 51, "{key}");
    assert!(key.starts_with(made["prefix"].as_str().unwrap()) && made["prefix"].as_str().unwrap().len() == 12);
    assert_eq!(made["permissions"], json!(["ai:read", "pipelines:read"]), "each once");
    assert_eq!((&made["last_used"], &made["usage_count"]), (&Value::Null, &json!(0)));
    let id = made["id"].as_str().unwrap();
    let shown = member.client.get(&format!("/api-keys/{id}")).await.expect(200);
    assert!(shown.get("key").is_none());
    assert_eq!(shown["expires_at"], made["expires_at"]);
    let listed = member.client.get("/api-keys?sort=-name").await.expect(200);
    assert_eq!(listed["data"], json!([shown]));
    assert_eq!(member.client.get("/users/me").await.expect(200)["api_keys"], json!([shown]));

    let stored: Vec<Stored> =
        diesel::sql_query("SELECT k::text AS stored FROM api_keys k").load(&mut world.conn().await).await.unwrap();
    assert!(stored.iter().all(|row| !row.stored.contains(key)));
    assert_eq!(audited(&world).await, ["api_key.created"]);
}

#[derive(diesel::QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    stored: String,
}

/// The log of changes, oldest first.
async fn audited(world: &World) -> Vec<String> {
    let query = "SELECT action AS stored FROM audit_entries WHERE target_type <> 'organization' ORDER BY id";
    let rows: Vec<Stored> = diesel::sql_query(query).load(&mut world.conn().await).await.unwrap();
    rows.into_iter().map(|row| row.stored).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_mistakes_hears_of_all_of_them() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let bad = json!({ "name": " ", "permissions": ["ai:read", "ai:everything"], "expires_in": 3651 });
    let answer = member.client.post("/api-keys", bad).await;
    assert_eq!(fields(&answer.body), ["expires_in", "name", "permissions[1]"]);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    let answer = member.client.post("/api-keys", json!({ "name": "x", "permissions": [] })).await;
    assert_eq!(fields(&answer.body), ["permissions"]);
    let id = make(&member, &["*"]).await["id"].as_str().unwrap().to_owned();
    let answer = member.client.put(&format!("/api-keys/{id}"), json!({ "permissions": ["rubbish"] })).await;
    assert_eq!(fields(&answer.body), ["permissions[0]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_it_was_made_for_and_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let reads = make(&member, &["products:read"]).await;
    with(client, &reads, Method::GET, "/products", Value::Null).await.expect(200);
    with(client, &reads, Method::HEAD, "/products", Value::Null).await.expect(200);
    let title = json!({ "title": "Mug" });
    let refused = with(client, &reads, Method::POST, "/products", title.clone()).await;
    assert!(refused.text.contains("products:write"), "{}", refused.text);
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
    let writes = make(&member, &["products:write"]).await;
    with(client, &writes, Method::POST, "/products", title.clone()).await.expect(201);
    assert_eq!(
        with(client, &writes, Method::GET, "/products", Value::Null).await.error(403),
        "INSUFFICIENT_PERMISSIONS"
    );

    let all = make(&member, &["*"]).await;
    with(client, &all, Method::GET, "/products", Value::Null).await.expect(200);
    for path in ["/auth/me", "/users/me", "/users/profile"] {
        for key in [&reads, &all] {
            let me = with(client, key, Method::GET, path, Value::Null).await.expect(200);
            assert_eq!(me["id"], member.registration["id"]);
        }
    }
    let own = format!("/api-keys/{}", all["id"].as_str().unwrap());
    for (method, path, body) in [
        (Method::GET, "/api-keys", Value::Null),
        (Method::POST, "/api-keys", json!({ "name": "another", "permissions": ["*"] })),
        (Method::GET, &own, Value::Null),
        (Method::PUT, &own, json!({ "permissions": ["*"] })),
        (Method::DELETE, &own, Value::Null),
        (Method::PUT, "/users/me", json!({ "name": "Somebody" })),
        (Method::PUT, "/auth/password", json!({ "old_password": member.password, "new_password": "another horse 2" })),
        (Method::POST, "/auth/logout", json!({})),
    ] {
        let refused = with(client, &all, method.clone(), path, body).await;
        assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS", "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_token_counts_where_both_are_sent() {
    let world = World::new().await;
    let api = world.api().await;
    let (one, other) = (world.member(&api).await, world.member(&api).await);
    let key = make(&one, &["*"]).await;
    let both = |client: &Client| {
        let request = client.request(Method::GET, "/api/v1/users/me");
        request.header("x-api-key", key["key"].as_str().unwrap())
    };
    let me = other.client.send(both(&other.client)).await.expect(200);
    assert_eq!(me["id"], other.registration["id"]);
    let broken = other.client.with_token("rubbish");
    assert_eq!(broken.send(both(&broken)).await.error(401), "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stops_at_once_when_it_is_deleted_or_expired_or_its_owner_disabled_or_gone() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let colleague = world.colleague(&api, &admin, "member").await;
    let key = make(&colleague, &["*"]).await;
    let client = world.client(&api);
    let status = async |key: &Value| with(&client, key, Method::GET, "/products", Value::Null).await.status.as_u16();
    let change = async |query: &str| world.run_sql(query).await;
    assert_eq!(status(&key).await, 200);
    for text in ["", "sk_live_", "rubbish", &format!("{}x", key["key"].as_str().unwrap())] {
        assert_eq!(status(&json!({ "key": text })).await, 401, "{text:?}");
    }

    let id = colleague.id();
    change(&format!("UPDATE users SET is_active = false WHERE id = '{id}'")).await;
    assert_eq!(status(&key).await, 401);
    change(&format!("UPDATE users SET is_active = true WHERE id = '{id}'")).await;
    assert_eq!(status(&key).await, 200);
    // the owner works elsewhere: the key acts where it was made
    let own = colleague.organization_id();
    change(&format!("UPDATE users SET organization_id = '{own}' WHERE id = '{id}'")).await;
    let me = with(&client, &key, Method::GET, "/users/me", Value::Null).await.expect(200);
    assert_eq!((&me["organization_id"], &me["role"]), (&json!(admin.organization_id()), &json!("member")));
    change(&format!("UPDATE memberships SET role = 'viewer' WHERE user_id = '{id}' AND organization_id <> '{own}'"))
        .await;
    let refused = with(&client, &key, Method::POST, "/products", json!({ "title": "Mug" })).await;
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS", "a key may no more than its owner");
    change(&format!("DELETE FROM memberships WHERE user_id = '{id}' AND organization_id <> '{own}'")).await;
    assert_eq!(status(&key).await, 401);

    let key = make(&admin, &["*"]).await;
    change("UPDATE api_keys SET expires_at = now() - interval '1 second'").await;
    assert_eq!(status(&key).await, 401);
    let key = make(&admin, &["*"]).await;
    assert_eq!(status(&key).await, 200);
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    let answer = admin.client.delete(&path).await.expect(200);
    assert_eq!(answer, json!({ "message": "API key deleted successfully" }));
    assert_eq!(status(&key).await, 401);
    assert_eq!(admin.client.delete(&path).await.error(404), "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_permissions_count_from_the_next_request_on() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let key = make(&member, &["products:read"]).await;
    let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
    with(&member.client, &key, Method::GET, "/products", Value::Null).await.expect(200);
    let changed = member.client.patch(&path, json!({ "permissions": ["ai:read"], "name": "Other" })).await.expect(200);
    assert_eq!((&changed["name"], &changed["permissions"]), (&json!("Other"), &json!(["ai:read"])));
    assert!(changed["updated_at"].as_str() > key["updated_at"].as_str());
    assert_eq!(with(&member.client, &key, Method::GET, "/products", Value::Null).await.status.as_u16(), 403);
    with(&member.client, &key, Method::GET, "/ai/models", Value::Null).await.expect(200);
    let unchanged = member.client.put(&path, json!({})).await.expect(200);
    assert_eq!(unchanged["permissions"], json!(["ai:read"]));
    member.client.delete(&path).await.expect(200);
    assert_eq!(audited(&world).await, ["api_key.created", "api_key.updated", "api_key.updated", "api_key.deleted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_uses_are_counted_exactly_and_also_when_the_api_stops() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let key = make(&member, &["products:read"]).await;
    let (client, path) = (&member.client, format!("/api-keys/{}", key["id"].as_str().unwrap()));
    let requests = (0..30).map(|_| with(client, &key, Method::GET, "/products", Value::Null));
    for answer in futures_util::future::join_all(requests).await {
        answer.expect(200);
    }
    with(client, &key, Method::POST, "/products", json!({ "title": "Mug" })).await.error(403);
    let shown = eventually("the uses to be written", async || {
        let shown = client.get(&path).await.expect(200);
        (shown["usage_count"] == 30).then_some(shown)
    })
    .await;
    assert!(shown["last_used"].is_string());
    with(client, &key, Method::GET, "/products", Value::Null).await.expect(200);
    api.running.stop().await;
    let id: Uuid = key["id"].as_str().unwrap().parse().unwrap();
    let stored: Stored = diesel::sql_query("SELECT usage_count::text AS stored FROM api_keys WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .get_result(&mut world.conn().await)
        .await
        .unwrap();
    assert_eq!(stored.stored, "31");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_owners_alone_and_viewers_make_none() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    let colleague = world.colleague(&api, &admin, "admin").await;
    let viewer = world.colleague(&api, &admin, "viewer").await;
    let path = format!("/api-keys/{}", make(&admin, &["*"]).await["id"].as_str().unwrap());
    for (method, body) in
        [(Method::GET, Value::Null), (Method::PUT, json!({ "name": "mine" })), (Method::DELETE, Value::Null)]
    {
        let request = colleague.client.request(method.clone(), &format!("/api/v1{path}"));
        let request = if body.is_null() { request } else { request.json(&body) };
        assert_eq!(colleague.client.send(request).await.error(404), "RESOURCE_NOT_FOUND", "{method}");
    }
    assert_eq!(colleague.client.get("/api-keys").await.expect(200)["pagination"]["total"], 0);
    let refused = viewer.client.post("/api-keys", json!({ "name": "x", "permissions": ["*"] })).await;
    assert_eq!(refused.error(403), "INSUFFICIENT_PERMISSIONS");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_more_than_a_hundred_keys_even_if_they_are_made_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    diesel::sql_query(
        "INSERT INTO api_keys (id, user_id, organization_id, name, prefix, hash, permissions, expires_at) \
         SELECT gen_random_uuid(), $1, $2, 'key ' || n, 'sk_live_xxxx', sha256(n::text::bytea), '{*}', now() \
         FROM generate_series(1, 98) n",
    )
    .bind::<SqlUuid, _>(member.id())
    .bind::<SqlUuid, _>(member.organization_id())
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    let body = json!({ "name": "Script", "permissions": ["*"] });
    let answers = futures_util::future::join_all((0..6).map(|_| member.client.post("/api-keys", body.clone()))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409, 409, 409, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_says_where_keys_are_taken_and_what_they_need() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let document = client.send(client.request(Method::GET, "/openapi.json")).await.expect(200);
    let scheme = &document["components"]["securitySchemes"]["api_key"];
    assert_eq!(
        (&scheme["type"], &scheme["in"], &scheme["name"]),
        (&json!("apiKey"), &json!("header"), &json!("x-api-key"))
    );
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    let bearer = json!({ "bearer": [] });
    assert_eq!(security("/api/v1/pipelines", "get"), json!([bearer, { "api_key": ["pipelines:read"] }]));
    assert_eq!(security("/api/v1/products/{product_id}", "patch"), json!([bearer, { "api_key": ["products:write"] }]));
    assert_eq!(security("/api/v1/users/me", "get"), json!([bearer, { "api_key": [] }]));
    assert_eq!(security("/api/v1/api-keys", "post"), json!([bearer]));
}

/// Opens a socket with a key in its header; what comes first, or the close code.
async fn first_word(client: &Client, path: &str, key: &Value) -> Result<Value, u16> {
    let mut request = format!("ws://{}{path}", client.address()).into_client_request().unwrap();
    request.headers_mut().insert("x-api-key", key["key"].as_str().unwrap().parse().unwrap());
    let mut socket = Socket(tokio_tungstenite::connect_async(request).await.unwrap().0);
    // a socket that is closed already does not take it
    let _ = socket.0.send(Message::text(json!({ "type": "ping" }).to_string())).await;
    socket.next().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_sockets_that_its_permissions_name() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]).await;
    let member = world.member(&api).await;
    let (asks, follows) = (make(&member, &["ai:write"]).await, make(&member, &["analysis:read"]).await);
    let client = &member.client;
    for path in ["/ws", "/api/v1/ai/stream"] {
        assert_eq!(first_word(client, path, &asks).await, Ok(json!({ "type": "pong" })), "{path}");
        assert_eq!(first_word(client, path, &follows).await, Err(4003), "{path}");
        assert_eq!(first_word(client, path, &json!({ "key": "sk_live_rubbish" })).await, Err(4001), "{path}");
    }
    let product = member.product("Mug").await;
    let file = harness::project_root().join("tests/images/rocket.jpg");
    let (_, job) = member.analysed_image(&product, &file, "image/jpeg").await;
    client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    let path = format!("/ws/processing/{job}");
    let frame = first_word(client, &path, &follows).await.unwrap();
    assert_eq!((&frame["type"], &frame["status"]), (&json!("job_failed"), &json!("cancelled")));
    assert_eq!(first_word(client, &path, &asks).await, Err(4003));
}
