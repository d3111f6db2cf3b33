//! Organizations, their people, keys and webhooks.

use super::{ask, get, joined, list};
use harness::World;
use reqwest::Method;
use serde_json::{Value, json};

pub(super) fn organization() -> Value {
    json!({
        "id": "uuid", "name": "string", "slug": "string", "subscription_tier": "free basic pro enterprise",
        "api_quota_limit": "int", "api_quota_used": "int", "settings": "object", "created_at": "time",
        "updated_at": "time",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations_and_their_people_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    let found = get(client, "/v1/organizations/current", &organization()).await;
    assert!(found["settings"]["default_ai_model"].is_string() && found["settings"]["integration_enabled"].is_boolean());
    ask(client, Method::PUT, "/v1/organizations/current", json!({ "name": "Ours" }), 200, &organization()).await;
    let of_member = joined(&[organization(), json!({ "role": "admin manager member viewer" })]);
    get(client, "/api/v1/organizations", &list(of_member)).await;
    let person = json!({
        "user_id": "uuid", "email": "string", "username": "string", "full_name": "string",
        "role": "admin manager member viewer", "joined_at": "time",
    });
    get(client, "/api/v1/organizations/current/members", &list(person)).await;
    let invitation = json!({
        "id": "uuid", "email": "string", "role": "admin manager member viewer", "expires_at": "time",
        "status": "pending accepted revoked expired", "created_at": "time", "invited_by": "uuid?",
    });
    let made = joined(&[invitation.clone(), json!({ "token": "string", "accept_url": "string" })]);
    let path = "/api/v1/organizations/current/invitations";
    ask(client, Method::POST, path, json!({ "email": "new@example.com" }), 201, &made).await;
    get(client, path, &list(invitation)).await;
    let session = json!({
        "id": "uuid", "created_at": "time", "last_used_at": "time", "ip": "string?", "user_agent": "string?",
        "current": "bool",
    });
    get(client, "/api/v1/auth/sessions", &list(session)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_webhooks_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    let message = json!({ "message": "string" });
    let key = json!({
        "id": "uuid", "name": "string", "permissions": ["string"], "created_at": "time", "updated_at": "time",
        "expires_at": "time", "last_used": "time?", "usage_count": "int", "prefix": "string", "organization_id": "uuid",
    });
    let fresh = joined(&[key.clone(), json!({ "key": "string" })]);
    let body = json!({ "name": "nightly", "permissions": ["ai:read", "webhooks:write"] });
    let made = ask(&client, Method::POST, "/api/v1/api-keys", body, 201, &fresh).await;
    let path = format!("/api/v1/api-keys/{}", made["id"].as_str().unwrap());
    get(&client, "/api/v1/api-keys", &list(key.clone())).await;
    get(&client, &path, &key).await;
    ask(&client, Method::PUT, &path, json!({ "name": "daily" }), 200, &key).await;
    ask(&client, Method::DELETE, &path, Value::Null, 200, &message).await;

    let webhook = json!({
        "id": "uuid", "name": "string", "url": "string", "events": ["string"], "active": "bool", "is_active": "bool",
        "ordered": "bool", "disabled_reason": "string?", "failures": "int", "last_delivery": "time?", "last_triggered_at": "time?",
        "created_at": "time", "updated_at": "time",
    });
    let fresh = joined(&[webhook.clone(), json!({ "secret": "string" })]);
    let body = json!({ "url": "https://example.com/hook", "events": ["job.completed"], "is_active": false });
    let made = ask(&client, Method::POST, "/v1/webhooks", body, 201, &fresh).await;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    get(&client, "/v1/webhooks", &list(webhook.clone())).await;
    get(&client, &path, &webhook).await;
    ask(&client, Method::PUT, &path, json!({ "name": "Jobs" }), 200, &webhook).await;
    ask(&client, Method::POST, &format!("{path}/rotate-secret"), Value::Null, 200, &fresh).await;
    ask(&client, Method::DELETE, &path, Value::Null, 200, &message).await;
}
