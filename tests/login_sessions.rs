//! Login sessions: where somebody is logged in, and ending that.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Client, Member, World, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

/// Logs in once more; a client with the new token, and the answer.
async fn login(member: &Member, agent: &str) -> (Client, Value) {
    let client = member.client.anonymous();
    let body = json!({ "email": member.email, "password": member.password });
    let request = client.request(reqwest::Method::POST, "/api/v1/auth/login").header("user-agent", agent).json(&body);
    let answer = client.send(request).await.expect(200);
    (client.with_token(answer["access_token"].as_str().unwrap()), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_is_listed_and_the_one_that_asks_is_marked() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (phone, _) = login(&member, "A phone").await;
    let listed = phone.get("/auth/sessions").await.expect(200);
    assert_eq!(listed["pagination"]["total"], 2);
    let (new, old) = (&listed["data"][0], &listed["data"][1]);
    assert_eq!((&new["current"], &old["current"]), (&json!(true), &json!(false)));
    assert_eq!((&new["user_agent"], &new["ip"]), (&json!("A phone"), &json!("127.0.0.1")));
    assert!(new["created_at"].is_string() && new["last_used_at"].is_string());
    let oldest = phone.get("/auth/sessions?sort=created_at&limit=1").await.expect(200);
    assert_eq!(oldest["data"], json!([old]));
    world.run_sql("UPDATE refresh_tokens SET expires_at = now()").await;
    let listed = phone.get("/auth/sessions").await.expect(200);
    assert_eq!(listed["pagination"]["total"], 0, "what cannot be refreshed any more is as good as ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_takes_its_tokens_with_it_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let (phone, tokens) = login(&member, "A phone").await;
    let listed = member.client.get("/auth/sessions").await.expect(200);
    let id = listed["data"][0]["id"].as_str().unwrap();
    assert_eq!(listed["data"][0]["user_agent"], "A phone");
    let path = format!("/auth/sessions/{id}");
    assert_eq!(other.client.delete(&path).await.error(404), "RESOURCE_NOT_FOUND");
    phone.get("/users/me").await.expect(200);
    member.client.delete(&path).await.expect(204);
    assert_eq!(phone.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED");
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    assert_eq!(phone.anonymous().post("/auth/refresh", refresh).await.error(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(member.client.delete(&path).await.error(404), "RESOURCE_NOT_FOUND");
    let unknown = format!("/auth/sessions/{}", Uuid::new_v4());
    assert_eq!(member.client.delete(&unknown).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(member.client.get("/auth/sessions").await.expect(200)["pagination"]["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_moves_with_use_but_not_with_each() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let last_used = async || member.client.get("/auth/sessions").await.expect(200)["data"][0]["last_used_at"].clone();
    let first = last_used().await;
    let long_ago = "UPDATE login_sessions SET last_used_at = now() - interval '1 hour'";
    world.run_sql(long_ago).await;
    let moved = eventually("the use to be noted", async || {
        let now = last_used().await;
        (now.as_str() > first.as_str()).then_some(now)
    })
    .await;
    for _ in 0..5 {
        assert_eq!(last_used().await, moved, "within a minute it stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_at_once_are_each_answered_as_whoever_sent_them() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_API_THREADS", "2")]).await;
    let members = futures_util::future::join_all((0..6).map(|_| world.member(&api))).await;
    let asked = (0..120).map(async |number: usize| {
        let member = &members[number % members.len()];
        if number % 10 == 9 {
            let forged = member.client.with_token(&format!("{}x", member.client.token()));
            assert_eq!(forged.get("/auth/sessions").await.status.as_u16(), 401);
        } else {
            let me = member.client.get("/users/me").await;
            assert!(me.status.as_u16() != 200 || me.body["id"] == member.registration["id"], "{}", me.text);
            assert_ne!(me.status.as_u16(), 401, "{}", me.text);
        }
    });
    futures_util::future::join_all(asked).await;
    // a role that changes counts for the very next request
    world.run_sql("UPDATE users SET is_active = false").await;
    for member in &members {
        assert_eq!(member.client.get("/users/me").await.status.as_u16(), 401);
    }
}
