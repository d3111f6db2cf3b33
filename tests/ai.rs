//! `/ai/chat`, `/ai/generate`, `/ai/models`: what is asked, what a worker is told, and what comes back, whole or streamed.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use harness::{Answer, Api, Events, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::kind::{Endpoint, Payload};
use tokio::join;
use uuid::Uuid;

/// An API where the local model answers for all others.
async fn api(world: &World) -> Api {
    world.api_with(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1"), ("OPENAI_API_KEY", "sk-test")]).await
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello?" }] })
}

fn streamed() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello?" }], "model": "gpt-4", "stream": true })
}

async fn make_viewer(world: &World, member: &Member) {
    diesel::sql_query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1")
        .bind::<SqlUuid, _>(member.registration["id"].as_str().unwrap().parse::<Uuid>().unwrap())
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
}

fn fields(answer: &Answer) -> Vec<String> {
    let details = answer.body["error"]["details"].as_array().unwrap();
    let mut fields: Vec<_> = details.iter().map(|detail| detail["field"].as_str().unwrap().to_owned()).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_answered_by_a_job_with_the_documented_defaults() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let (answer, job) = join!(member.client.post("/ai/chat", hello()), async {
        let question = world.question().await;
        let Payload::ChatCompletion(asked) = question.payload() else { unreachable!("a conversation was sent") };
        assert_eq!(asked.endpoint, Endpoint::AiChat);
        assert_eq!((asked.model.as_str(), asked.max_tokens, asked.stream), ("minimax", 1000, false));
        assert_eq!((asked.temperature, asked.top_p), (0.7, 0.9));
        assert_eq!(question.messages(), json!([["user", "Hello?"]]));
        question.answer("Hello yourself.").await;
        question.job
    });
    let answer = answer.expect(200);
    assert_eq!(answer["id"], json!(job.id));
    assert_eq!(answer["model"], "minimax");
    assert_eq!(
        answer["choices"],
        json!([{
            "index": 0, "message": { "role": "assistant", "content": "Hello yourself." }, "finish_reason": "stop",
        }])
    );
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 }));
    assert_eq!(answer["created"], json!(job.created_at.timestamp()));
    assert_eq!((&answer["metadata"]["answered_by"], &answer["metadata"]["local"]), (&json!("smollm2"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_reaches_the_worker_under_every_alias() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let body = json!({
        "messages": [
            { "role": "system", "content": "Be short." }, { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": "Hi." }, { "role": "user", "content": "Bye" },
        ],
        "model": "gpt-4", "max_tokens": 4096, "temperature": 0, "top_p": 1, "stream": false,
    });
    for path in ["/api/v1/ai/chat", "/api/ai/chat", "/v1/ai/chat", "/v1/ai/chat/"] {
        let request = member.client.request(Method::POST, path).json(&body);
        let (answer, ()) = join!(member.client.send(request), async {
            let question = world.question().await;
            let Payload::ChatCompletion(asked) = question.payload() else { unreachable!("a conversation was sent") };
            assert_eq!((asked.model.as_str(), asked.max_tokens), ("gpt-4", 4096));
            assert_eq!((asked.temperature, asked.top_p), (0.0, 1.0));
            let said = json!([["system", "Be short."], ["user", "Hi"], ["assistant", "Hi."], ["user", "Bye"]]);
            assert_eq!(question.messages(), said);
            question.answer("Bye.").await;
        });
        assert_eq!(answer.expect(200)["model"], "gpt-4", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_question_is_checked_and_all_are_named_at_once() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let wrong = json!({
        "messages": [{ "role": "robot", "content": "x" }, { "role": "user", "content": "" }],
        "max_tokens": 8193, "temperature": 1.1, "top_p": 0, "stream": "yes",
    });
    let answer = client.post("/ai/chat", wrong).await;
    assert_eq!(
        fields(&answer),
        ["max_tokens", "messages[0].role", "messages[1].content", "stream", "temperature", "top_p"]
    );
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    let message = json!({ "role": "user", "content": "x" });
    for (field, value) in [
        ("messages", json!([])),
        ("messages", json!(vec![message.clone(); 201])),
        ("messages", json!("x")),
        ("messages[0].content", json!([{ "role": "user" }])),
        ("messages[0].content", json!([{ "role": "user", "content": 5 }])),
        ("model", json!("gpt-99")),
        ("model", json!(5)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("temperature", json!(-0.1)),
        ("top_p", json!(1.01)),
    ] {
        let mut body = json!({ "messages": [message] });
        let name = field.split('[').next().unwrap();
        body[name] = value.clone();
        let answer = client.post("/ai/chat", body).await;
        assert_eq!(fields(&answer), [field], "{field} = {value}: {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    assert_eq!(fields(&client.post("/ai/chat", json!({})).await), ["messages"]);
    for (field, value) in [
        ("prompt", json!("")),
        ("model", json!("gpt-99")),
        ("max_tokens", json!(100_000)),
        ("temperature", json!("hot")),
        ("top_p", json!(0)),
        ("n", json!(0)),
        ("n", json!(11)),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stop", json!([""])),
        ("stop", json!("")),
        ("stop", json!(5)),
    ] {
        let mut body = json!({ "prompt": "Once" });
        body[field] = value.clone();
        let answer = client.post("/ai/generate", body).await;
        assert_eq!(fields(&answer), [field], "{field} = {value}: {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    let huge = json!({ "messages": [{ "role": "user", "content": "x".repeat(1 << 20) }] });
    assert_eq!(client.post("/ai/chat", huge).await.error(400), "VALIDATION_ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_serves_is_refused_and_not_listed() {
    let world = World::new().await;
    let api = world.api_with(&[("OPENAI_API_KEY", "sk-test")]).await;
    let client = world.member(&api).await.client;
    let answer = client.post("/ai/chat", hello()).await;
    let detail = &answer.body["error"]["details"][0];
    assert_eq!(detail["field"], "model");
    assert!(detail["message"].as_str().unwrap().contains("not served here"), "{detail}");
    answer.error(400);
    let models = client.get("/ai/models").await.expect(200);
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-4o-mini"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_gone_on_from_as_often_as_was_asked_for() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    for (stop, told) in [(json!("END"), vec!["END"]), (json!(["a", "b"]), vec!["a", "b"]), (Value::Null, vec![])] {
        let body = json!({ "prompt": "Once", "n": 3, "max_tokens": 5, "stop": stop });
        let (answer, ()) = join!(client.post("/ai/generate", body), async {
            let question = world.question().await;
            let Payload::TextGeneration(asked) = question.payload() else { unreachable!("a prompt was sent") };
            assert_eq!((asked.prompt.as_str(), asked.n, asked.max_tokens), ("Once", 3, 5));
            assert_eq!((asked.model.as_str(), asked.temperature, asked.top_p), ("minimax", 0.7, 0.9));
            assert_eq!(asked.stop, told);
            question.answer(" upon a time").await;
        });
        let answer = answer.expect(200);
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 3);
        assert_eq!(choices[2], json!({ "text": " upon a time", "index": 2, "finish_reason": "stop" }));
        assert_eq!(answer["usage"]["total_tokens"], 7);
        assert!(answer["created"].is_i64());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_model_have_their_own_codes() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    for (failed, status, code) in [
        ("llm_server", 502, "AI_SERVICE_ERROR"),
        ("budget_exceeded", 429, "QUOTA_EXCEEDED"),
        ("llm_bad_request", 400, "VALIDATION_ERROR"),
        ("llm_model_unknown", 400, "VALIDATION_ERROR"),
        ("timeout", 502, "AI_SERVICE_ERROR"),
    ] {
        let (answer, ()) = join!(client.post("/ai/chat", hello()), async {
            world.question().await.fail(failed, "The provider says no").await;
        });
        assert!(answer.text.contains("The provider says no"), "{}", answer.text);
        if status == 429 {
            let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=31 * 86_400 + 1).contains(&seconds), "{seconds}");
            assert_eq!(answer.body["error"]["retry_after"], seconds);
        }
        assert_eq!(answer.error(status), code, "{failed}");
        // before the first piece a stream is refused in the same way
        let (answer, ()) = join!(client.post("/ai/chat", streamed()), async {
            world.question().await.fail(failed, "The provider says no").await;
        });
        assert_eq!(answer.error(status), code, "{failed}, streamed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_may_list_models_and_not_ask_them() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    make_viewer(&world, &member).await;
    let client = &member.client;
    for (path, body) in
        [("/ai/chat", hello()), ("/ai/generate", json!({ "prompt": "x" })), ("/chat", json!({ "message": "x" }))]
    {
        assert_eq!(client.post(path, body.clone()).await.error(403), "INSUFFICIENT_PERMISSIONS", "{path}");
        assert_eq!(client.anonymous().post(path, body).await.error(401), "AUTHENTICATION_REQUIRED", "{path}");
    }
    client.delete("/chat/history").await.error(403);
    for path in ["/ai/models", "/ai/usage", "/usage", "/chat/history"] {
        client.get(path).await.expect(200);
        assert_eq!(client.anonymous().get(path).await.error(401), "AUTHENTICATION_REQUIRED", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_say_what_they_can_what_they_cost_and_whether_they_are_local() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let models = client.get("/ai/models").await.expect(200);
    let all = models["data"].as_array().unwrap();
    let model = |id: &str| all.iter().find(|model| model["id"] == id).unwrap();
    assert_eq!((&all[0]["id"], &models["pagination"]["total"]), (&json!("minimax"), &json!(all.len())));
    assert_eq!(model("gpt-4")["pricing"]["per_1k_tokens"], 0.045, "between 0.03 and 0.06");
    assert_eq!((&model("gpt-4")["local"], &model("gpt-4")["max_tokens"]), (&json!(false), &json!(4096)));
    assert_eq!(model("gpt-4-turbo")["supported_endpoints"], json!(["chat", "generate"]));
    assert_eq!(
        (&model("minimax")["local"], &model("minimax")["pricing"]["per_1k_tokens"]),
        (&json!(true), &json!(0.0))
    );

    let page = |answer: &Value| {
        let data = answer["data"].as_array().unwrap();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let names = page(&client.get("/ai/models?sort=name").await.expect(200));
    let mut seen = Vec::new();
    let mut path = "/ai/models?sort=name&limit=3".to_owned();
    let mut last = Value::Null;
    loop {
        let answer = client.get(&path).await.expect(200);
        seen.extend(page(&answer));
        let Some(cursor) = answer["pagination"]["next_cursor"].as_str() else { break };
        path = format!("/ai/models?sort=name&limit=3&cursor={cursor}");
        last = answer;
    }
    assert_eq!(seen, names);
    let end = client.get(&path).await.expect(200);
    let back = end["pagination"]["prev_cursor"].as_str().unwrap();
    let back = client.get(&format!("/ai/models?sort=name&limit=3&cursor={back}")).await.expect(200);
    assert_eq!(page(&back), page(&last));
    client.get("/ai/models?sort=size").await.error(400);
    client.get("/ai/models?limit=0").await.error(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_brings_each_piece_as_it_comes_and_ends_with_done() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let (mut events, question) = join!(Events::open(&client, streamed()), async {
        let question = world.question().await;
        assert!(question.job.payload["stream"].as_bool().unwrap());
        question.say("Grüß").await;
        question
    });
    let first = events.chunk().await;
    assert_eq!(
        first,
        json!({
            "id": question.job.id, "model": "gpt-4", "created": question.job.created_at.timestamp(),
            "choices": [{
                "index": 0, "delta": { "role": "assistant", "content": "Grüß" }, "finish_reason": null,
            }],
        })
    );
    // nothing but this piece is there, so it cannot have been held back for the next
    question.say(" Gott").await;
    let second = events.chunk().await;
    assert_eq!(second["choices"][0]["delta"], json!({ "content": " Gott" }));
    question.answer("Grüß Gott").await;
    let last = events.chunk().await;
    assert_eq!(last["choices"], json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]));
    assert_eq!(last["usage"]["total_tokens"], 7);
    assert_eq!(events.next().await.as_deref(), Some("[DONE]"));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_missed_comes_from_the_stored_text_and_nothing_comes_twice() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let (mut events, question) = join!(Events::open(&client, streamed()), async {
        let question = world.question().await;
        question.say("One").await;
        question
    });
    assert_eq!(events.chunk().await["choices"][0]["delta"]["content"], "One");
    question.publish(1, 0, "One").await;
    question.publish(1, 7, " three").await;
    question.publish(1, 3, " two").await;
    question.answer("One two three").await;
    assert_eq!(events.chunk().await["choices"][0]["delta"]["content"], " two three");
    assert_eq!(events.chunk().await["choices"][0]["finish_reason"], "stop");
    assert_eq!(events.next().await.as_deref(), Some("[DONE]"));

    // no piece at all: everything comes with the end
    let (mut events, ()) = join!(Events::open(&client, streamed()), async {
        world.question().await.answer("At once").await;
    });
    let only = events.chunk().await;
    assert_eq!(only["choices"][0]["delta"], json!({ "role": "assistant", "content": "At once" }));
    assert_eq!(events.chunk().await["choices"][0]["finish_reason"], "stop");
    assert_eq!(events.next().await.as_deref(), Some("[DONE]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_go_on_says_so_and_is_not_done() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    // another attempt says something else
    let (mut events, question) = join!(Events::open(&client, streamed()), async {
        let question = world.question().await;
        question.say("One").await;
        question
    });
    events.chunk().await;
    question.publish(2, 0, "Two").await;
    question.answer("Two").await;
    assert_eq!(events.chunk().await["error"]["code"], "AI_SERVICE_ERROR");
    assert_eq!(events.next().await, None);
    // the model fails on its way
    let (mut events, question) = join!(Events::open(&client, streamed()), async {
        let question = world.question().await;
        question.say("One").await;
        question
    });
    events.chunk().await;
    question.fail("llm_truncated", "The stream broke off").await;
    assert_eq!(events.chunk().await["error"], json!({ "code": "AI_SERVICE_ERROR", "message": "The stream broke off" }));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_goes_away_ends_the_job() {
    let world = World::new().await;
    let api = api(&world).await;
    let client = world.member(&api).await.client;
    let (mut events, question) = join!(Events::open(&client, streamed()), async {
        let question = world.question().await;
        question.say("One").await;
        question
    });
    events.chunk().await;
    drop(events);
    question.asked_to_stop().await;
}
