//! What holds for every request, and what whoever runs the system relies on.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Client, World, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

async fn get(client: &Client, path: &str) -> Answer {
    client.send(client.request(Method::GET, path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_form_of_a_path_is_the_same_endpoint() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let me = member.client.get("/users/me").await.expect(200);
    for path in ["/api/users/me", "/v1/users/me", "/api/v1/users/me/", "/auth/me", "/api/auth/me", "/v1/auth/me/?x=1"] {
        let answer = get(&member.client, path).await;
        assert_eq!(answer.headers["x-api-version"], "v1", "{path}");
        assert_eq!(answer.expect(200), me, "{path}");
    }
    let login = json!({ "email": member.email, "password": member.password });
    for path in ["/auth/login", "/api/auth/login", "/v1/auth/login/"] {
        let request = member.client.anonymous().request(Method::POST, path).json(&login);
        member.client.send(request).await.expect(200);
    }
    let request = member.client.request(Method::PATCH, "/v1/users/profile/").json(&json!({ "name": "Patched" }));
    assert_eq!(member.client.send(request).await.expect(200)["name"], "Patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_wrong_methods_and_wrong_ids_answer_in_the_form_of_errors() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    for path in [
        "/",
        "/nothing",
        "/api/v2/users/me",
        "/v2/users/me",
        "/api/v1",
        "/api/v1/nothing",
        "/users/me",
        "/docs/nothing",
        "/docs/api/migrations/v1-to-v2.md",
    ] {
        assert_eq!(get(client, path).await.error(404), "RESOURCE_NOT_FOUND", "{path}");
    }
    let wrong = client.send(client.request(Method::DELETE, "/api/v1/users/profile")).await;
    assert_eq!(wrong.headers["allow"], "GET, HEAD, PUT, PATCH, OPTIONS");
    assert_eq!(wrong.error(405), "METHOD_NOT_ALLOWED");
    assert_eq!(client.send(client.request(Method::POST, "/health")).await.error(405), "METHOD_NOT_ALLOWED");
    for id in ["17", "not-an-id", "00000000-0000-0000-0000-00000000000", "%00"] {
        assert_eq!(client.get(&format!("/products/{id}")).await.error(404), "RESOURCE_NOT_FOUND", "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_options_work_on_every_path() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let document = get(client, "/openapi.json").await.expect(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        let options = client.send(client.request(Method::OPTIONS, &path)).await;
        assert_eq!(options.status, StatusCode::NO_CONTENT, "{path}");
        let allowed = options.headers["allow"].to_str().unwrap().to_owned();
        for method in ["get", "post", "put", "patch", "delete"] {
            let listed = allowed.split(", ").any(|name| name.eq_ignore_ascii_case(method));
            assert_eq!(listed, item.get(method).is_some(), "{method} {path}: {allowed}");
        }
    }
    for path in ["/health", "/docs", "/api/v1/users/me", "/api/v1/products"] {
        let (head, full) = (client.send(client.request(Method::HEAD, path)).await, get(client, path).await);
        assert_eq!((head.status, head.text.as_str()), (full.status, ""), "{path}");
        assert_eq!(head.headers["content-type"], full.headers["content-type"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_request_id_and_the_headers_that_protect_browsers() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let send = async |id: &str| client.send(client.request(Method::GET, "/health").header("x-request-id", id)).await;
    assert_eq!(send("my-id.1:2_3").await.headers["x-request-id"], "my-id.1:2_3");
    for bad in ["with space", "<script>", &"x".repeat(129), ""] {
        let id = send(bad).await.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(id.parse::<uuid::Uuid>().unwrap().to_string(), id, "{bad:?}");
    }
    for path in ["/health", "/nothing", "/api/v1/users/me", "/docs", "/redoc"] {
        let headers = get(&client, path).await.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert!(headers.contains_key("referrer-policy"));
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert_eq!(policy.contains("script-src 'self'"), ["/docs", "/redoc"].contains(&path), "{path}: {policy}");
        assert!(!policy.contains("'unsafe-inline' 'self'") && !policy.contains("http:"), "{policy}");
        assert!(!headers.contains_key("strict-transport-security"), "only behind TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_may_call_and_others_may_not() {
    let world = World::new().await;
    let api = world
        .api_with(&[
            ("ATELIER_CORS_ORIGINS", "https://app.example.com/, https://other.example.com"),
            ("ATELIER_PUBLIC_URL", "https://api.example.com"),
        ])
        .await;
    let client = world.client(&api);
    let preflight = async |origin: &str| {
        let request = client
            .request(Method::OPTIONS, "/v1/products")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        client.send(request).await
    };
    let allowed = preflight("https://app.example.com").await;
    assert!(allowed.status.is_success(), "{}", allowed.status);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example.com");
    assert!(!preflight("https://evil.example.com").await.headers.contains_key("access-control-allow-origin"));
    let request = client.request(Method::GET, "/api/v1/users/me").header("origin", "https://app.example.com");
    let answer = client.send(request).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example.com", "errors can be read, too");
    assert!(answer.headers["access-control-expose-headers"].to_str().unwrap().contains("x-request-id"));
    assert!(answer.headers.contains_key("strict-transport-security"));
    assert_eq!(answer.error(401), "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let body = json!({ "email": "a@example.com", "password": "x".repeat(2 << 20) });
    let answer = client.post("/auth/login", body).await;
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("too large"), "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_tell_how_it_is() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let health = get(&client, "/health").await.expect(200);
    assert_eq!(health["status"], "healthy");
    assert!(health["uptime"].is_u64() && health["version"].is_string());
    let ready = get(&client, "/ready").await.expect(200);
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready["services"], json!({ "database": "connected", "redis": "connected", "storage": "connected" }));
    assert_eq!(ready["checks"], json!({ "database": "ok", "redis": "ok", "storage": "ok" }));
    assert_eq!(get(&client, "/ready?require=everything").await.error(400), "VALIDATION_ERROR");
    get(&client, "/api/v1/users/me").await;
    let metrics = get(&client, "/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "atelier_http_requests_total{method=\"GET\",route=\"/api/v1/users/me\",status=\"401\"}",
        "atelier_http_request_duration_seconds_bucket{method=\"GET\",route=\"/health\",status=\"200\",le=\"",
        "atelier_jobs{kind=\"image_analysis\",status=\"queued\"} 0",
        "atelier_queue_depth{queue=\"images\",place=\"ready\"} 0",
    ] {
        assert!(metrics.text.contains(line), "{line} is missing in\n{}", metrics.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_api_works_and_says_what_is_away() {
    let world = World::with_own_redis().await;
    let api = world.api_with(&[("REDIS_URL", "redis://127.0.0.1:1/0")]).await;
    let client = world.client(&api);
    let ready = get(&client, "/ready").await;
    assert_eq!(ready.headers["retry-after"], "2");
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.body["status"], "not_ready");
    assert_eq!(
        (&ready.body["services"]["redis"], &ready.body["checks"]["redis"]),
        (&json!("disconnected"), &json!("error"))
    );
    assert_eq!(ready.body["services"]["database"], "connected");
    assert_eq!(ready.body["error"]["code"], "SERVICE_UNAVAILABLE");
    assert_eq!(get(&client, "/ready?require=database,storage").await.expect(200)["status"], "ready");
    let member = world.member(&api).await;
    member.product("made without Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_as_such() {
    let world = World::new().await;
    let api = world.api_with(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")]).await;
    let client = world.client(&api);
    let body = json!({ "email": "a@example.com", "password": "analytical1" });
    let answer = client.post("/auth/login", body).await;
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    assert_eq!(answer.error(503), "SERVICE_UNAVAILABLE");
    assert_eq!(get(&client, "/ready?require=redis").await.expect(200)["services"]["database"], "disconnected");
    get(&client, "/health").await.expect(200);
}

/// Sends the head of a request whose body comes later, and returns once the API waits for that body.
async fn half_a_request(client: &Client, body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(client.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 100 Continue\r\n\r\n");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_refuses_new_requests_finishes_those_in_work_and_ends() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = member.client.anonymous();
    let body = json!({ "email": member.email, "password": member.password }).to_string();
    let mut slow = half_a_request(&client, &body).await;
    let mut stopping = JoinSet::new();
    stopping.spawn(api.running.stop());
    eventually("the API to say that it stops", async || {
        let ready = get(&client, "/ready").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let refused = client.get("/users/me").await;
    assert_eq!(refused.error(503), "SERVICE_UNAVAILABLE");
    slow.write_all(body.as_bytes()).await.unwrap();
    let answer = read_answer(slow).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tokio::time::timeout(Duration::from_secs(30), stopping.join_all()).await.unwrap();
}

async fn read_answer(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_the_database_cannot_hold_is_refused_where_it_comes_in() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let refused = member.client.post("/products", json!({ "title": "a\0b", "metadata": { "deep": ["\0"] } })).await;
    let details = refused.body["error"]["details"].as_array().unwrap();
    let mut fields: Vec<_> = details.iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["metadata.deep[0]", "title"]);
    assert_eq!(member.client.get("/products?search=%00").await.error(400), "VALIDATION_ERROR");
    assert_eq!(member.client.get("/products?category=%00").await.error(400), "VALIDATION_ERROR");
    let kept: Value = member.client.post("/products", json!({ "title": "say \\u0000" })).await.expect(201);
    assert_eq!(kept["title"], "say \\u0000");
}
