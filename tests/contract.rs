//! The answers of every endpoint, field by field: a client may rely on each being there, and on its type.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

mod accounts;
mod index;
mod models;
mod organization;
mod pipelines;
mod products;
mod projects;

use chrono::NaiveDateTime;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Checks a value against a pattern of the same form. A pattern's text is the name of a type, with `?` where null may
/// stand, or the words that are allowed; its object must have the very same keys; its array is a list of any length.
fn check(value: &Value, pattern: &Value, at: &str) {
    match pattern {
        Value::String(types) => {
            let (types, nullable) = types.strip_suffix('?').map_or((types.as_str(), false), |types| (types, true));
            assert!(fits(value, types) || nullable && value.is_null(), "{at} is no {types}: {value}");
        }
        Value::Array(elements) => {
            for (index, element) in value.as_array().unwrap_or_else(|| panic!("{at} is no list")).iter().enumerate() {
                check(element, &elements[0], &format!("{at}[{index}]"));
            }
        }
        Value::Object(fields) => {
            let keys = |fields: &Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
            let value = value.as_object().unwrap_or_else(|| panic!("{at} is no object: {value}"));
            assert_eq!(keys(value), keys(fields), "the fields of {at}");
            fields.iter().for_each(|(key, pattern)| check(&value[key], pattern, &format!("{at}.{key}")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => assert_eq!(value, pattern, "{at}"),
    }
}

fn fits(value: &Value, types: &str) -> bool {
    let text = value.as_str().unwrap_or_default();
    match types {
        "uuid" => text.parse::<Uuid>().is_ok_and(|id| id.to_string() == text),
        "time" => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6fZ").is_ok() && text.len() == 27,
        "string" => value.is_string(),
        "int" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "share" => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
        "bool" => value.is_boolean(),
        "object" => value.is_object(),
        "shares" => value.as_object().is_some_and(|shares| shares.values().all(|share| fits(share, "share"))),
        words => words.split(' ').any(|word| word == text),
    }
}

fn auth_user() -> Value {
    json!({
        "id": "uuid", "email": "string", "username": "string", "name": "string", "full_name": "string",
        "role": "admin manager member viewer", "tier": "free basic pro enterprise", "organization_id": "uuid",
        "is_active": "bool", "created_at": "time",
    })
}

fn user() -> Value {
    let window = json!({ "used": "int", "limit": "int?" });
    let more = json!({
        "preferences": {
            "theme": "light dark system", "notifications": { "email": "bool", "browser": "bool" },
            "default_model": "string",
        },
        "usage": { "pipelines_created": "int", "executions_this_month": "int", "tokens_used_this_month": "int" },
        "quota": { "daily": window, "weekly": window, "monthly": window },
        "api_keys": ["object"], "updated_at": "time", "last_login_at": "time?", "mfa_enabled": "bool",
    });
    joined(&[auth_user(), more])
}

fn list(element: Value) -> Value {
    json!({
        "data": [element],
        "pagination": {
            "total": "int", "limit": "int", "offset": "int?", "page": "int?", "pages": "int", "has_next": "bool",
            "has_prev": "bool", "next_cursor": "string?", "prev_cursor": "string?",
        },
    })
}

fn joined(parts: &[Value]) -> Value {
    parts.iter().flat_map(|part| part.as_object().unwrap().clone()).collect()
}

/// Sends a request and checks status and body.
async fn ask(client: &harness::Client, method: Method, path: &str, body: Value, status: u16, pattern: &Value) -> Value {
    let request = client.request(method.clone(), path);
    let answer = client.send(if body.is_null() { request } else { request.json(&body) }).await.expect(status);
    check(&answer, pattern, &format!("{method} {path}"));
    answer
}

async fn get(client: &harness::Client, path: &str, pattern: &Value) -> Value {
    ask(client, Method::GET, path, Value::Null, 200, pattern).await
}
