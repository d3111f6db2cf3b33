//! Accounts, and what every replica says of itself.

use super::{ask, auth_user, check, get, joined, user};
use chrono::DateTime;
use harness::{Api, World};
use reqwest::Method;
use serde_json::{Value, json};

fn token_set() -> Value {
    json!({
        "access_token": "string", "refresh_token": "string", "token": "string", "token_type": "bearer",
        "expires_in": "int",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_answer_with_every_documented_field() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let registered = json!({
        "id": "uuid", "email": "string", "full_name": "string", "is_active": "bool", "created_at": "time",
        "user": auth_user(),
    });
    check(&member.registration, &joined(&[registered, token_set()]), "register");
    let credentials = json!({ "email": member.email, "password": member.password });
    let pattern = joined(&[json!({ "user": auth_user() }), token_set()]);
    let login = ask(&member.client, Method::POST, "/auth/login", credentials, 200, &pattern).await;
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    let tokens = ask(&member.client, Method::POST, "/auth/refresh", refresh, 200, &token_set()).await;
    assert_eq!(tokens["token"], tokens["access_token"]);
    for path in ["/api/v1/auth/me", "/api/users/me", "/v1/users/profile", "/auth/me"] {
        get(&member.client, path, &user()).await;
    }
    for path in ["/auth/profile", "/api/v1/users/me", "/api/v1/users/profile"] {
        for method in [Method::PUT, Method::PATCH] {
            ask(&member.client, method, path, json!({ "name": "Ada" }), 200, &user()).await;
        }
    }
    let message = json!({ "message": "string" });
    let change = json!({ "old_password": member.password, "new_password": "another horse 2" });
    ask(&member.client, Method::PUT, "/auth/password", change, 200, &message).await;
    ask(&member.client, Method::POST, "/auth/logout", Value::Null, 200, &message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_answer_with_every_documented_field() {
    let world = World::new().await;
    let api: Api = world.api().await;
    let client = world.client(&api);
    let health = json!({ "status": "healthy", "timestamp": "time", "version": "string", "uptime": "int" });
    get(&client, "/health", &health).await;
    let three = |word: &str| json!({ "database": word, "redis": word, "storage": word });
    let ready = json!({ "status": "ready", "services": three("connected"), "checks": three("ok") });
    get(&client, "/ready", &ready).await;
    let error = client.get("/nothing").await;
    let pattern = json!({
        "error": {
            "code": "string", "message": "string", "details": ["object"], "request_id": "string", "timestamp": "time",
        },
    });
    check(&error.body, &pattern, "an error");
    assert!(DateTime::parse_from_rfc3339(error.body["error"]["timestamp"].as_str().unwrap()).is_ok());
}
