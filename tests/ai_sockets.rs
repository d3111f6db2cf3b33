//! `/ws` and `/ai/stream`: models asked over a socket.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use futures_util::SinkExt;
use harness::{Api, Member, Socket, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::kind::{Endpoint, Payload};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use uuid::Uuid;

async fn api(world: &World) -> Api {
    world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]).await
}

fn chat(message: &str) -> Value {
    json!({ "type": "chat", "data": { "message": message, "model": "gpt-4" } })
}

fn ask(content: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }], "model": "gpt-4" })
}

async fn make_viewer(world: &World, member: &Member) {
    diesel::sql_query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1")
        .bind::<SqlUuid, _>(member.registration["id"].as_str().unwrap().parse::<Uuid>().unwrap())
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_message_is_answered_over_the_socket() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let mut socket = Socket::enter(&member.client, "/ws").await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.frame().await, json!({ "type": "pong" }));
    socket.send(chat("Hello")).await;
    let question = world.question().await;
    let Payload::ChatCompletion(asked) = question.payload() else { unreachable!("a message was sent") };
    assert_eq!((asked.endpoint, asked.stream), (Endpoint::ChatSocket, false));
    question.answer("Hello yourself").await;
    let frame = socket.frame().await;
    assert_eq!(frame["type"], "chat_response");
    let data = &frame["data"];
    assert_eq!((&data["id"], &data["message"]), (&json!(question.job.id), &json!("Hello yourself")));
    assert_eq!((&data["model"], &data["usage"]["total_tokens"]), (&json!("gpt-4"), &json!(7)));
    assert!(data["created_at"].is_string());
    // what fails is told, and the socket goes on
    socket.send(chat("Again")).await;
    world.question().await.fail("llm_server", "The provider is down").await;
    let frame = socket.frame().await;
    assert_eq!((&frame["type"], &frame["data"]["code"]), (&json!("error"), &json!("AI_SERVICE_ERROR")));
    assert_eq!(frame["data"]["message"], "The provider is down");
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.frame().await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_streamed_over_the_socket_under_every_alias() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    for path in ["/api/v1/ai/stream", "/v1/ai/stream", "/api/ai/stream"] {
        let mut socket = Socket::enter(&member.client, path).await;
        socket.send(ask("Hello")).await;
        let question = world.question().await;
        let Payload::ChatCompletion(asked) = question.payload() else { unreachable!("a conversation was sent") };
        assert_eq!((asked.endpoint, asked.stream), (Endpoint::AiStream, true));
        let id = question.job.id;
        question.say("One").await;
        assert_eq!(socket.frame().await, json!({ "type": "delta", "id": id, "content": "One" }));
        question.say(" two").await;
        assert_eq!(socket.frame().await["content"], " two");
        question.answer("One two three").await;
        assert_eq!(socket.frame().await, json!({ "type": "delta", "id": id, "content": " three" }));
        let done = socket.frame().await;
        assert_eq!((&done["type"], &done["id"], &done["content"]), (&json!("done"), &json!(id), &json!("")));
        assert_eq!((&done["finish_reason"], &done["usage"]["total_tokens"]), (&json!("stop"), &json!(7)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_are_told_and_the_socket_stays_open() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let mut socket = Socket::enter(&member.client, "/ws").await;
    let frames: [(&str, Option<&str>); 9] = [
        ("{", None),
        ("[1]", None),
        ("{}", Some("type")),
        (r#"{"type": "dance"}"#, Some("type")),
        (r#"{"type": "chat"}"#, Some("message")),
        (r#"{"type": "chat", "data": []}"#, None),
        (r#"{"type": "chat", "data": {"message": ""}}"#, Some("message")),
        (r#"{"type": "chat", "data": {"message": "x", "model": "gpt-99"}}"#, Some("model")),
        (r#"{"type": "chat", "data": {"message": "x", "temperature": 2}}"#, Some("temperature")),
    ];
    for (text, field) in frames {
        socket.0.send(Message::text(text)).await.unwrap();
        let frame = socket.frame().await;
        assert_eq!((&frame["type"], &frame["data"]["code"]), (&json!("error"), &json!("VALIDATION_ERROR")), "{text}");
        assert_eq!(frame["data"]["details"][0]["field"].as_str(), field, "{text}: {frame}");
    }
    socket.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(socket.frame().await["type"], "error");

    let mut socket = Socket::enter(&member.client, "/api/v1/ai/stream").await;
    for (text, field) in [
        ("{", None),
        ("{}", Some("messages")),
        (r#"{"type": "chat", "messages": []}"#, Some("type")),
        (r#"{"messages": [{"role": "user", "content": "x"}], "top_p": 3}"#, Some("top_p")),
    ] {
        socket.0.send(Message::text(text)).await.unwrap();
        let frame = socket.frame().await;
        assert_eq!((&frame["type"], &frame["content"]), (&json!("error"), &json!("")), "{text}");
        assert_eq!(frame["error"]["code"], "VALIDATION_ERROR");
        assert_eq!(frame["error"]["details"][0]["field"].as_str(), field, "{text}: {frame}");
    }
    socket.0.send(Message::text("x".repeat((1 << 20) + 1))).await.unwrap();
    assert_eq!(socket.next().await, Err(1009));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_by_query_by_header_or_as_the_first_message() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    for (path, question) in [("/ws", chat("Hello")), ("/api/v1/ai/stream", ask("Hello"))] {
        let mut by_query = Socket::enter(client, path).await;
        let mut request = format!("ws://{}{path}", client.address()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", client.token()).parse().unwrap());
        let mut by_header = Socket(tokio_tungstenite::connect_async(request).await.unwrap().0);
        let mut by_message = Socket::open(client, path).await;
        by_message.send(question.clone()).await;
        let frame = by_message.frame().await;
        assert!(frame.to_string().contains("AUTHENTICATION_REQUIRED"), "{frame}");
        by_message.send(json!({ "type": "auth", "data": { "token": client.token() } })).await;
        for socket in [&mut by_query, &mut by_header, &mut by_message] {
            socket.send(question.clone()).await;
            world.question().await.answer("Yes").await;
            assert_ne!(socket.frame().await["type"], "error");
        }
        let mut refused = Socket::open(client, &format!("{path}?token=nonsense")).await;
        assert_eq!(refused.next().await, Err(4001));
        let mut refused = Socket::open(client, path).await;
        refused.send(json!({ "type": "auth", "data": { "token": "nonsense" } })).await;
        assert_eq!(refused.next().await, Err(4001));
    }
    // a plain request is no handshake
    assert_eq!(client.send(client.request(Method::GET, "/ws")).await.error(400), "VALIDATION_ERROR");
    assert_eq!(client.get("/ai/stream").await.error(400), "VALIDATION_ERROR");
    assert_eq!(client.anonymous().get("/ai/stream").await.error(401), "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_and_a_viewer_are_refused_at_the_next_question() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let mut chats = Socket::enter(&member.client, "/ws").await;
    let mut streams = Socket::enter(&member.client, "/api/v1/ai/stream").await;
    make_viewer(&world, &member).await;
    chats.send(chat("Hello")).await;
    assert_eq!(chats.frame().await["data"]["code"], "INSUFFICIENT_PERMISSIONS");
    streams.send(ask("Hello")).await;
    assert_eq!(streams.frame().await["error"]["code"], "INSUFFICIENT_PERMISSIONS");
    member.client.post("/auth/logout", json!({})).await.expect(200);
    chats.send(chat("Hello")).await;
    assert_eq!(chats.frame().await["data"]["code"], "AUTHENTICATION_REQUIRED");
    streams.send(ask("Hello")).await;
    assert_eq!(streams.frame().await["error"]["code"], "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_five_sockets_of_each_kind() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let member = world.member(&api).await;
    for path in ["/ws", "/api/v1/ai/stream"] {
        let mut open = Vec::new();
        for _ in 0..5 {
            let mut socket = Socket::enter(&member.client, path).await;
            socket.send(json!({ "type": "ping" })).await;
            assert_eq!(socket.frame().await["type"], "pong");
            open.push(socket);
        }
        assert_eq!(Socket::enter(&member.client, path).await.next().await, Err(4029));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_one_after_another_and_few_may_wait() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let mut socket = Socket::enter(&member.client, "/ws").await;
    socket.send(chat("0")).await;
    let first = world.question().await;
    for number in 1..=9 {
        socket.send(chat(&number.to_string())).await;
    }
    let refused = socket.frame().await;
    assert_eq!(refused["data"]["code"], "RATE_LIMIT_EXCEEDED", "{refused}");
    first.answer("0").await;
    assert_eq!(socket.frame().await["data"]["message"], "0");
    for number in 1..=8 {
        let question = world.question().await;
        assert!(question.messages().as_array().unwrap().last().unwrap() == &json!(["user", number.to_string()]));
        question.answer(&number.to_string()).await;
        assert_eq!(socket.frame().await["data"]["message"], number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_closes_ends_its_job() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    for (path, question) in [("/ws", chat("Hello")), ("/api/v1/ai/stream", ask("Hello"))] {
        let mut socket = Socket::enter(&member.client, path).await;
        socket.send(question).await;
        let question = world.question().await;
        socket.0.close(None).await.unwrap();
        question.asked_to_stop().await;
    }
}
