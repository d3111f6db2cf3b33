//! Whatever comes in, nothing panics, and what is wrong is an error that says so: made-up input for every parser of
//! bytes that others send.
//!
//! What can be called is called; what is private to the API is reached as clients reach it. A panic there costs the
//! client its answer, which fails the test. Every failure prints the input that caused it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use chrono::Utc;
use futures_util::SinkExt;
use harness::{Socket, World};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::{BoxedStrategy, ValueTree},
    test_runner::TestRunner,
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use shared::{
    pipeline::{Definition, normalized, template},
    schedule::Timetable,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use worker::vision::{ImageLimits, ImageType, decode};

/// Words that parsers treat in a special way, and what is near them.
const WORDS: &[&str] = &[
    "",
    " ",
    "\0",
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "NaN",
    "18446744073709551616",
    "9999-12-31T23:59:60Z",
    "-asc",
    "+",
    "-",
    ",",
    "created_at",
    "-created_at,id",
    "asc",
    "ünïcödé",
    "\u{202e}",
    "\u{fffd}",
    "{{",
    "}}",
    "{{ a }}",
    "{% if %}",
    "$",
    "$.a[",
    "$..*",
    "..",
    "../..",
    "%",
    "%00",
    "' OR 1=1 --",
    "\\u0000",
    "😀",
    "Bearer",
    "* * * * *",
    "UTC",
];

/// Text of any kind, often with a special word in it.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        select(WORDS).prop_map(ToOwned::to_owned),
        ".{0,40}",
        "[ -~]{0,40}",
        vec(select(WORDS), 0..6).prop_map(|words| words.concat())
    ]
    .boxed()
}

/// JSON of any shape.
fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((text(), inner), 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
    .boxed()
}

/// A whole with one to four of its parts replaced by something else, or taken out.
fn damaged(whole: Value) -> BoxedStrategy<Value> {
    vec((any::<prop::sample::Index>(), proptest::option::weighted(0.8, any_json())), 1..5)
        .prop_map(move |damages| {
            let mut damaged = whole.clone();
            for (place, replacement) in damages {
                let paths = paths(&damaged);
                let path = &paths[place.index(paths.len())];
                match (replacement, path.rsplit_once('/')) {
                    (Some(value), _) => *damaged.pointer_mut(path).unwrap() = value,
                    (None, Some((parent, key))) => {
                        if let Some(Value::Object(fields)) = damaged.pointer_mut(parent) {
                            fields.remove(&key.replace("~1", "/").replace("~0", "~"));
                        }
                    }
                    (None, None) => damaged = Value::Null,
                }
            }
            damaged
        })
        .boxed()
}

/// The way to every part.
fn paths(value: &Value) -> Vec<String> {
    let parts: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, part)| (key.replace('~', "~0").replace('/', "~1"), part)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(n, part)| (n.to_string(), part)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let below =
        parts.into_iter().flat_map(|(key, part)| paths(part).into_iter().map(move |path| format!("/{key}{path}")));
    std::iter::once(String::new()).chain(below).collect()
}

/// So many values.
fn some<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, number: usize) -> Vec<T> {
    let mut runner = TestRunner::default();
    (0..number).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn pipeline() -> Value {
    let node = |id: &str, kind: &str, config: Value| json!({ "id": id, "type": kind, "position": { "x": 1, "y": 2 }, "config": config });
    json!({
        "nodes": [
            node("a", "input", json!({ "inputType": "text" })),
            node("b", "prompt", json!({ "template": "Say {{ a }} {% if a %}twice{% endif %}" })),
            node("c", "condition", json!({ "operator": "matches", "value": "^a+$" })),
            node("d", "transform", json!({ "operation": "json_path", "path": "$.a[0]" })),
            node("e", "http", json!({ "url": "https://example.com/{{ d }}", "method": "POST", "headers": { "X-A": "1" } })),
            node("f", "merge", json!({})),
            node("g", "delay", json!({ "seconds": 1 })),
            node("h", "llm", json!({ "model": "gpt-4", "maxTokens": 5 })),
            node("i", "map", json!({ "nodes": [], "connections": [] })),
            node("j", "output", json!({})),
        ],
        "connections": [
            { "id": "1", "source": "a", "target": "b" },
            { "id": "2", "source": "b", "target": "c" },
            { "id": "3", "source": "c", "target": "d", "source_handle": "true" },
            { "id": "4", "source": "d", "target": "j" },
        ],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_time_table_is_read_or_refused(cron in prop_oneof![text(), "[0-9*/,A-Z?#L-]{1,5}( [0-9*/,A-Z?#L-]{1,5}){4,5}"], zone in text()) {
        for zone in [zone.as_str(), "UTC", "Europe/Berlin"] {
            match Timetable::read(&cron, zone) {
                Ok(table) => { table.next_after(Utc::now()); }
                Err(problems) => prop_assert!(!problems.is_empty()),
            }
        }
    }

    #[test]
    fn a_template_is_taken_or_refused(source in text(), id in text()) {
        let _ = template::check(&source);
        let _ = template::check_expression(&source);
        let named = template::name_nodes(&source, std::iter::once(id.as_str()));
        let _ = template::environment().render_str(&named, BTreeMap::from([("a", 1)]));
    }

    #[test]
    fn a_definition_is_read_or_refused(whole in prop_oneof![damaged(pipeline()), any_json()]) {
        if let Ok(definition) = Definition::read(&whole["nodes"], &whole["connections"]) {
            let inputs = whole.as_object().cloned().unwrap_or_default();
            definition.check_inputs(&inputs);
        }
        let (nodes, connections) = normalized(&whole["nodes"], &whole["connections"]);
        let _ = Definition::read(&nodes, &connections);
    }

    #[test]
    fn the_beginning_of_an_image_is_looked_at(
        head in select(vec![&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"II*\0", b""]),
        tail in vec(any::<u8>(), 0..200),
    ) {
        let bytes = [head, &tail].concat();
        if ImageType::sniff(&bytes).is_ok() {
            let _ = decode(&bytes, &ImageLimits::default());
        }
    }
}

/// Every answer is one: below 500, and in the one form where it is an error.
async fn answered(request: reqwest::RequestBuilder, what: &str) {
    let response = timeout(Duration::from_secs(60), request.send()).await;
    let response = response.unwrap_or_else(|_| panic!("no answer in time to {what}"));
    let response = response.unwrap_or_else(|error| panic!("no answer to {what}: {error:?}"));
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(!status.is_server_error(), "{status} to {what}: {text}");
    if status.is_client_error() {
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} to {what}: {text}"));
        assert!(body["error"]["code"].is_string(), "{status} to {what}: {text}");
    }
}

async fn api(world: &World) -> harness::Api {
    let settings = [("ATELIER_RATE_LIMITS", "off"), ("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")];
    world.api_with(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_query_of_a_list_is_answered() {
    const LISTS: &[&str] = &[
        "/products",
        "/pipelines",
        "/executions",
        "/orchestration",
        "/projects",
        "/templates",
        "/jobs",
        "/usage",
        "/webhooks",
        "/chat/history",
        "/ai/models",
        "/files",
        "/files/00000000-0000-0000-0000-000000000000/content",
        "/analytics/usage",
    ];
    const NAMES: &[&str] = &[
        "page",
        "limit",
        "page_size",
        "offset",
        "cursor",
        "sort",
        "sort_by",
        "sort_order",
        "search",
        "created_after",
        "created_before",
        "status",
        "category",
        "priority",
        "is_public",
        "pipeline_id",
        "project_id",
        "start_date",
        "event",
        "days",
        "granularity",
        "expires",
        "signature",
    ];

    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let cursor = "eyJ[A-Za-z0-9_=-]{0,60}";
    let value =
        prop_oneof![4 => text(), 1 => cursor, 1 => "[0-9]{1,25}", 1 => "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:]{0,8}Z)?"];
    let query = (select(LISTS), vec((select(NAMES), value), 0..5));
    for (list, parameters) in some(&query, 600) {
        let mut url = reqwest::Url::parse("http://any/").unwrap();
        url.query_pairs_mut().extend_pairs(&parameters);
        let query = url.query().unwrap_or_default();
        let request = client.request(Method::GET, &format!("/api/v1{list}?{query}"));
        answered(request, &format!("{list} {parameters:?}")).await;
    }
    for raw in some(&"[ -~]{0,60}", 200) {
        let path: String = raw.chars().filter(|c| !c.is_whitespace() && !"#\\^`{}|<>\"".contains(*c)).collect();
        answered(client.request(Method::GET, &format!("/api/v1/products?{path}")), &path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_header_is_answered() {
    const NAMES: &[&str] = &[
        "authorization",
        "x-api-key",
        "idempotency-key",
        "x-forwarded-for",
        "x-request-id",
        "if-match",
        "traceparent",
    ];

    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let value = prop_oneof![
        vec(any::<u8>(), 0..60),
        "Bearer [ -~]{0,60}".prop_map(String::into_bytes),
        "(eyJ[A-Za-z0-9_-]{0,20}\\.){2}[A-Za-z0-9_-]{0,20}".prop_map(|token| format!("Bearer {token}").into_bytes()),
        "sk_live_[A-Za-z0-9]{0,50}".prop_map(String::into_bytes),
        "[0-9.:,a-f ]{0,60}".prop_map(String::into_bytes),
        Just(vec![b'x'; 5_000]),
    ];
    for headers in some(&vec((select(NAMES), value), 1..4), 500) {
        for (method, path) in [(Method::GET, "/products"), (Method::POST, "/products")] {
            let mut request = client.request(method.clone(), &format!("/api/v1{path}"));
            for (name, value) in &headers {
                if let Ok(value) = reqwest::header::HeaderValue::from_bytes(value) {
                    request = request.header(*name, value);
                }
            }
            let request = if method == Method::POST { request.json(&json!({ "title": 1 })) } else { request };
            answered(request, &format!("{method} {headers:?}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_body_is_answered() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let made = client.post("/pipelines", json!({ "name": "Loud", "nodes": [], "connections": [] })).await.expect(201);
    let schedules = format!("/pipelines/{}/schedules", made["id"].as_str().unwrap());
    let webhook = json!({
        "url": "https://example.com/", "events": ["job.failed"], "name": "x", "secret": "whsec_MDEy", "active": true,
    });
    let template = json!({
        "name": "x", "is_public": true,
        "template_data": {
            "phases": ["a", "b"], "integrations": ["git"], "settings": { "max_tokens": 5, "temperature": 0.5 },
        },
    });
    let mut definition = pipeline();
    definition["name"] = json!("x");
    let orchestration = json!({
        "project_id": Uuid::nil(), "topic": "x", "custom_phases": ["a"], "integration_enabled": true,
        "template_id": Uuid::nil(), "settings": { "ai_model": "gpt-4", "max_tokens": 10, "temperature": 0.5 },
    });
    let bodies: [(&str, Value); 9] = [
        ("/orchestrate", orchestration),
        ("/products", json!({ "title": "x", "metadata": { "a": 1 } })),
        ("/pipelines", definition),
        ("/projects", json!({ "name": "x", "status": "active", "priority": "low", "metadata": { "a": [1] } })),
        ("/templates", template),
        (&schedules, json!({ "cron": "0 9 * * *", "timezone": "UTC", "inputs": {}, "missed": "skip" })),
        ("/webhooks", webhook),
        (
            "/uploads/presigned-url",
            json!({ "product_id": "x", "filename": "a.png", "content_type": "image/png", "file_size_bytes": 1 }),
        ),
        ("/auth/login", json!({ "email": "a@example.com", "password": "x" })),
    ];
    for (path, body) in bodies {
        for body in some(&damaged(body), 150) {
            answered(client.request(Method::POST, &format!("/api/v1{path}")).json(&body), &format!("{path} {body}"))
                .await;
        }
        for bytes in some(&vec(any::<u8>(), 0..100), 30) {
            let request =
                client.request(Method::POST, &format!("/api/v1{path}")).header("content-type", "application/json");
            answered(request.body(bytes.clone()), &format!("{path} {bytes:?}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_form_is_answered() {
    const KINDS: &[&str] =
        &["multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary=\"", "text/plain"];

    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let part = prop_oneof![
        Just(&b"--x\r\n"[..]),
        Just(&b"--x--\r\n"[..]),
        Just(&b"\r\n\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\0\xff"[..]),
        Just(&b"Content-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n"[..]),
        Just(&b"Content-Disposition: form-data; name=\"product_id\"\r\n"[..]),
        Just(&b"Content-Type: image/png\r\n"[..]),
        Just(&b"Content-Disposition: form-data; name=\r\n"[..]),
        Just(&b"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''%00%ff..%2f\r\n"[..]),
        Just(&b"00000000-0000-0000-0000-000000000000"[..]),
    ];
    let paths = select(&["/api/v1/uploads/direct", "/api/v1/files/upload"][..]);
    for (path, kind, parts) in some(&(paths, select(KINDS), vec(part, 0..12)), 600) {
        let body = parts.concat();
        let request = client.request(Method::POST, path).header("content-type", kind);
        answered(request.body(body.clone()), &format!("{path} {kind} {:?}", String::from_utf8_lossy(&body))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_frame_of_a_socket_is_survived() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let chat = json!({ "type": "chat", "data": { "message": 1, "model": "no such model" } });
    let frame = prop_oneof![
        3 => damaged(chat).prop_map(|frame| Message::text(frame.to_string())),
        1 => text().prop_map(Message::text),
        1 => vec(any::<u8>(), 0..60).prop_map(Message::binary),
        1 => vec(any::<u8>(), 0..60).prop_map(|bytes| Message::Ping(bytes.into())),
    ];
    for path in ["/ws", "/api/v1/ai/stream"] {
        for frames in some(&vec(frame.clone(), 1..5), 60) {
            let mut socket = Socket::enter(&client, path).await;
            for frame in &frames {
                // it may have been closed over the frame before
                let _ = socket.0.send(frame.clone()).await;
            }
            let _ = socket.0.close(None).await;
            let closed = timeout(Duration::from_secs(60), async { while socket.next().await.is_ok() {} }).await;
            assert!(closed.is_ok(), "{path} does not close after {frames:?}");
        }
    }
    client.get("/products").await.expect(200);
    // a frame may have been a good question after all
    diesel_async::RunQueryDsl::execute(diesel::sql_query("DELETE FROM jobs"), &mut world.conn().await).await.unwrap();
}
