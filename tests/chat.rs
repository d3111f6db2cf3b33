//! `/chat`: a conversation that is remembered.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use harness::{Api, Member, World};
use serde_json::{Value, json};
use shared::kind::{Endpoint, Payload};
use tokio::join;
use uuid::Uuid;

async fn api(world: &World) -> Api {
    world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]).await
}

fn user_id(member: &Member) -> Uuid {
    member.registration["id"].as_str().unwrap().parse().unwrap()
}

/// Writes an exchange straight into the history.
async fn remember(world: &World, member: &Member, message: &str, response: &str) {
    diesel::sql_query(
        "INSERT INTO chat_entries (id, user_id, message, response, model) VALUES ($1, $2, $3, $4, 'gpt-4')",
    )
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<SqlUuid, _>(user_id(member))
    .bind::<Text, _>(message)
    .bind::<Text, _>(response)
    .execute(&mut *world.conn().await)
    .await
    .unwrap();
}

/// Says something, and returns the payload that a worker was given and the answer.
async fn say(world: &World, member: &Member, body: Value) -> (Value, Value) {
    let (answer, payload) = join!(member.client.post("/chat", body), async {
        let question = world.question().await;
        question.answer("I see.").await;
        question.job.payload.clone()
    });
    (payload, answer.expect(200))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_with_the_documented_fields_and_defaults() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let (answer, job) = join!(member.client.post("/chat", json!({ "message": "Hello" })), async {
        let question = world.question().await;
        let Payload::ChatCompletion(asked) = question.payload() else { unreachable!("a message was sent") };
        assert_eq!((asked.endpoint, asked.model.as_str()), (Endpoint::Chat, "gpt-4"));
        assert_eq!((asked.max_tokens, asked.temperature, asked.stream), (1000, 0.7, false));
        assert_eq!(question.messages(), json!([["user", "Hello"]]));
        question.answer("Hello yourself").await;
        question.job
    });
    let answer = answer.expect(200);
    assert_eq!((&answer["id"], &answer["message"]), (&json!(job.id), &json!("Hello yourself")));
    assert_eq!((&answer["model"], &answer["usage"]["total_tokens"]), (&json!("gpt-4"), &json!(7)));
    assert!(answer["created_at"].as_str().unwrap().ends_with('Z'));
    let body = json!({ "message": "Hello", "model": "minimax", "temperature": 1, "max_tokens": 5 });
    let (payload, answer) = say(&world, &member, body).await;
    assert_eq!((&payload["max_tokens"], &payload["temperature"]), (&json!(5), &json!(1.0)));
    assert_eq!(answer["model"], "minimax");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_the_users_then_the_organizations() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let model = json!({ "preferences": { "default_model": "gpt-3.5-turbo" } });
    member.client.put("/users/me", model).await.expect(200);
    assert_eq!(say(&world, &member, json!({ "message": "x" })).await.1["model"], "gpt-3.5-turbo");
    diesel::sql_query("UPDATE users SET preferences = preferences - 'default_model' WHERE id = $1")
        .bind::<SqlUuid, _>(user_id(&member))
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
    diesel::sql_query("UPDATE organizations SET settings = '{\"default_ai_model\": \"gpt-4-turbo\"}'")
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
    assert_eq!(say(&world, &member, json!({ "message": "x" })).await.1["model"], "gpt-4-turbo");
    // a choice that is none is not replaced by another
    let model = json!({ "preferences": { "default_model": "gpt-99" } });
    member.client.put("/users/me", model).await.expect(200);
    let answer = member.client.post("/chat", json!({ "message": "x" })).await;
    assert_eq!(answer.body["error"]["details"][0]["field"], "model");
    answer.error(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_message_is_checked() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    for (field, value) in [
        ("message", json!("")),
        ("message", json!("  ")),
        ("message", json!("x".repeat(32_001))),
        ("message", json!(5)),
        ("message", Value::Null),
        ("model", json!("gpt-99")),
        ("temperature", json!(1.5)),
        ("max_tokens", json!(0)),
        // more than the default model can
        ("max_tokens", json!(4097)),
    ] {
        let mut body = json!({ "message": "x" });
        body[field] = value.clone();
        let answer = client.post("/chat", body).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], field, "{}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR", "{field} = {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_lately_goes_along() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let other = world.member(&api).await;
    for number in 1..=12 {
        remember(&world, &member, &format!("question {number}"), &format!("answer {number}")).await;
    }
    remember(&world, &other, "secret", "secret").await;
    let (payload, _) = say(&world, &member, json!({ "message": "And now?" })).await;
    let messages = payload["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 21, "ten exchanges and the message");
    assert_eq!(messages[0], json!({ "role": "user", "content": "question 3" }));
    assert_eq!(messages[19], json!({ "role": "assistant", "content": "answer 12" }));
    assert_eq!(messages[20], json!({ "role": "user", "content": "And now?" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_ones_own_newest_first_and_can_be_cleared() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let other = world.member(&api).await;
    for number in 1..=3 {
        remember(&world, &member, &format!("question {number}"), &format!("answer {number}")).await;
    }
    remember(&world, &other, "another's", "another's").await;
    let history = member.client.get("/chat/history").await.expect(200);
    assert_eq!((&history["pagination"]["total"], &history["pagination"]["limit"]), (&json!(3), &json!(50)));
    let newest = &history["data"][0];
    assert_eq!((&newest["message"], &newest["response"]), (&json!("question 3"), &json!("answer 3")));
    let page = member.client.get("/chat/history?limit=1&offset=2").await.expect(200);
    assert_eq!(page["data"][0]["message"], "question 1");
    let cleared = member.client.delete("/chat/history").await;
    assert_eq!(cleared.text, "");
    cleared.expect(204);
    assert_eq!(member.client.get("/chat/history").await.expect(200)["pagination"]["total"], 0);
    assert_eq!(other.client.get("/chat/history").await.expect(200)["pagination"]["total"], 1);
    member.client.delete("/chat/history").await.expect(204);
}
