//! The API's description against the API, and the pages that show it.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Client, World};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeSet;

async fn document(client: &Client) -> Value {
    client.send(client.request(Method::GET, "/openapi.json")).await.expect(200)
}

/// Every operation: method, path, description.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter().map(move |(method, operation)| (method.clone(), path.clone(), operation))
        })
        .collect()
}

/// Every `$ref` in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_whole_and_names_each_operation_once() {
    let world = World::new().await;
    let api = world.api().await;
    let document = document(&world.client(&api)).await;
    assert!(document["openapi"].as_str().unwrap().starts_with('3'));
    let mut references_found = BTreeSet::new();
    references(&document, &mut references_found);
    for reference in references_found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} is used twice, at {method} {path}");
        assert!(
            operation["summary"].is_string() || operation["description"].is_string(),
            "{method} {path} says nothing"
        );
        for (status, response) in operation["responses"].as_object().unwrap() {
            let says = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(says, "{status} of {method} {path} says nothing");
        }
        if path.starts_with("/api/v1") {
            for status in ["400", "500", "503"] {
                let schema = &operation["responses"][status]["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Error", "{status} of {method} {path}");
            }
            let public = [
                "register",
                "login",
                "refresh",
                "forgot_password",
                "reset_password",
                "get_unsubscribe_page",
                "unsubscribe",
                "get_file_content",
            ]
            .contains(&id);
            assert_eq!(operation["security"].is_null(), public, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_canonical_paths_are_described_and_put_comes_with_patch() {
    let world = World::new().await;
    let api = world.api().await;
    let document = document(&world.client(&api)).await;
    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for path in
        ["/api/v1/auth/register", "/api/v1/auth/me", "/api/v1/users/profile", "/api/v1/products/{product_id}", "/ready"]
    {
        assert!(paths.contains(path), "{path} is missing in {paths:?}");
    }
    assert!(paths.iter().all(|path| !path.starts_with("/v1") && !path.starts_with("/auth") && !path.ends_with('/')));
    for (method, path, _) in operations(&document) {
        if method == "put" || method == "patch" {
            let item = &document["paths"][path.as_str()];
            assert!(item["put"].is_object() && item["patch"].is_object(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_by_description_is_protected_indeed() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let document = document(&client).await;
    for (method, path, operation) in operations(&document) {
        if operation["security"].is_null() || path.starts_with("/ws") {
            continue;
        }
        let url = path
            .split('/')
            .map(|part| if part.starts_with('{') { "00000000-0000-0000-0000-000000000000" } else { part });
        let url = url.collect::<Vec<_>>().join("/");
        let method: Method = method.to_uppercase().parse().unwrap();
        let answer = client.send(client.request(method.clone(), &url).json(&serde_json::json!({}))).await;
        assert_eq!(answer.error(401), "AUTHENTICATION_REQUIRED", "{method} {url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_yaml_says_the_same_as_the_json() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let yaml = client.send(client.request(Method::GET, "/openapi.yaml")).await.text;
    let yaml: Value = yaml_serde::from_str(&yaml).unwrap();
    assert_eq!(yaml, document(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_need_nothing_from_other_hosts() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    for page in ["/docs", "/docs/", "/redoc"] {
        let html = client.send(client.request(Method::GET, page)).await;
        assert!(html.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        let mut parts = html.text.split(['"', '\'']);
        let mut loaded = 0;
        while let Some(part) = parts.next() {
            if part.ends_with("src=") || part.ends_with("href=") || part.ends_with("spec-url=") {
                let address = parts.next().unwrap();
                if address != "data:," {
                    assert!(address.starts_with('/'), "{page} loads {address}");
                    let file = client.send(client.request(Method::GET, address)).await;
                    assert!(file.status.is_success() && !file.text.is_empty(), "{address}: {}", file.status);
                    loaded += 1;
                }
            }
        }
        assert!(loaded >= 2, "{page}: {}", html.text);
        assert!(!html.text.contains("<script>"), "a script inside {page} would need a weaker policy");
    }
}
