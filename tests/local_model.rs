//! The small language model that `atelier up` starts, asked as any provider is: directly, and through every endpoint.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use futures_util::{SinkExt, StreamExt};
use harness::{Api, Client, Member, Running, Servers, World};
use reqwest::Method;
use serde_json::{Value, json};
use standalone::services::Service;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio_tungstenite::tungstenite::Message;

const MODEL: &str = "smollm2-135m-instruct";

async fn post(base: &str, path: &str, body: Value) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
    let answer = http.post(format!("{base}{path}")).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn question(text: &str, changes: Value) -> Value {
    let mut body = json!({ "model": MODEL, "max_tokens": 24, "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

async fn ask(base: &str, body: Value) -> Value {
    let (status, text) = post(base, "chat/completions", body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The frames of an event stream, with whether it ended as it should.
fn frames(stream: &str) -> (Vec<Value>, bool) {
    let data: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, rest) = data.split_last().unwrap();
    (rest.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect(), *last == "[DONE]")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_model_answers_with_real_text_and_counts_its_tokens() {
    let base = Servers::shared().await.local_llm().await;
    let answer = ask(&base, question("What is the capital of France? Answer in one short sentence.", json!({}))).await;
    assert_eq!(answer["model"], MODEL);
    let choice = &answer["choices"][0];
    assert!(choice["message"]["content"].as_str().unwrap().contains("Paris"), "{answer}");
    assert_eq!(choice["finish_reason"], "stop");
    let tokens = |name: &str| answer["usage"][name].as_u64().unwrap();
    assert!(tokens("prompt_tokens") > 10 && (1..=24).contains(&tokens("completion_tokens")), "{answer}");
    assert_eq!(tokens("total_tokens"), tokens("prompt_tokens") + tokens("completion_tokens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_is_the_whole_one_in_pieces_with_usage_at_its_end() {
    let base = Servers::shared().await.local_llm().await;
    let whole = ask(&base, question("Name three fruits.", json!({}))).await;
    let streamed = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let (status, text) = post(&base, "chat/completions", question("Name three fruits.", streamed)).await;
    assert_eq!(status, 200, "{text}");
    let (frames, ended) = frames(&text);
    assert!(ended, "{text}");
    let pieces: Vec<&str> =
        frames.iter().filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(pieces.len() > 3, "one piece a token was expected: {text}");
    assert_eq!(pieces.concat(), whole["choices"][0]["message"]["content"].as_str().unwrap());
    let usage = &frames.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"], "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_model_stops_where_it_is_told_to() {
    let base = Servers::shared().await.local_llm().await;
    let text = "Count from one to nine in digits: 1, 2, 3, 4, 5,";
    let answer = ask(&base, question(text, json!({ "max_tokens": 60 }))).await;
    let whole = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(6).take(3).collect();
    let answer = ask(&base, question(text, json!({ "max_tokens": 60, "stop": [stop] }))).await;
    let cut = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(Some(cut), whole.split(&stop).next(), "stopped at {stop:?}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let answer = ask(&base, question(text, json!({ "max_tokens": 3 }))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_it_answers_at_once_wait_for_their_turn() {
    let base = Servers::shared().await.local_llm().await;
    let questions = (0..8).map(|number| ask(&base, question(&format!("Say {number}."), json!({ "max_tokens": 4 }))));
    for answer in futures_util::future::join_all(questions).await {
        assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_does_not_fit_is_refused_and_nothing_breaks() {
    let base = Servers::shared().await.local_llm().await;
    let (status, text) = post(&base, "chat/completions", question(&"word ".repeat(5_000), json!({}))).await;
    assert_eq!(status, 400, "{text}");
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("context"), "{text}");
    ask(&base, question("Hello.", json!({ "max_tokens": 2 }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_local_model_comes_back_where_it_was() {
    let servers = Servers::shared().await;
    let mut server = spawn_blocking(|| servers.own_local_llm("killed-model")).await.unwrap();
    let base = server.url();
    ask(&base, question("Hello.", json!({ "max_tokens": 2 }))).await;
    let mut server = spawn_blocking(move || {
        server.kill().unwrap();
        assert!(!server.is_running());
        server.start_again().unwrap();
        server
    })
    .await
    .unwrap();
    assert_eq!(server.url(), base);
    assert!(server.is_running());
    ask(&base, question("Hello.", json!({ "max_tokens": 2 }))).await;
}

const PARIS: &str = "What is the capital of France? Answer in one short sentence.";

/// An API and a worker with no key of any provider, and the real local model.
async fn without_a_key(world: &World) -> (Api, Running) {
    let url = world.servers.local_llm().await;
    let settings = [("ATELIER_LOCAL_LLM_URL", url.as_str())];
    (world.api_with(&settings).await, world.worker_with(&["interactive", "pipelines"], &settings).await)
}

fn asked(changes: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": PARIS }], "max_tokens": 24, "temperature": 0, "top_p": 1,
    });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

/// Sends one frame over a socket and collects what comes back, up to the frame of this type.
async fn told(client: &Client, path: &str, frame: Value, last: &str) -> Vec<Value> {
    let url = format!("ws://{}{path}?token={}", client.address(), client.token());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::text(frame.to_string())).await.unwrap();
    let mut frames: Vec<Value> = Vec::new();
    while frames.last().is_none_or(|frame| frame["type"] != last) {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            frames.push(serde_json::from_str(&text).unwrap());
            assert_ne!(frames.last().unwrap()["type"], "error", "{text}");
        }
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_model_stands_in_for_every_documented_model_and_says_so() {
    let world = World::new().await;
    let (api, _worker) = without_a_key(&world).await;
    let member = world.member(&api).await;
    let models = member.client.get("/ai/models?limit=100").await.expect(200);
    for id in ["minimax", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"] {
        let model = models["data"].as_array().unwrap().iter().find(|model| model["id"] == id).unwrap();
        assert_eq!((&model["local"], &model["pricing"]["per_1k_tokens"]), (&json!(true), &json!(0.0)), "{model}");
        let answer = member.client.post("/ai/chat", asked(json!({ "model": id }))).await.expect(200);
        assert_eq!(answer["model"], id);
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("Paris"), "{answer}");
        let metadata = &answer["metadata"];
        assert_eq!((&metadata["local"], &metadata["answered_by"]), (&json!(true), &json!(MODEL)), "{answer}");
    }
    let used = member.client.get("/ai/usage").await.expect(200);
    assert_eq!(used["usage"]["total_requests"], 4);
    assert_eq!(used["usage"]["total_cost"], 0.0);
    assert!(used["usage"]["total_tokens"].as_u64().unwrap() > 4 * 30, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_local_model_says_piece_by_piece_is_what_it_says_at_once() {
    let world = World::new().await;
    let (api, _worker) = without_a_key(&world).await;
    let Member { client, .. } = world.member(&api).await;
    let whole = client.post("/ai/chat", asked(json!({}))).await.expect(200);
    let whole = whole["choices"][0]["message"]["content"].as_str().unwrap();

    let request = client.request(Method::POST, "/api/v1/ai/chat").json(&asked(json!({ "stream": true })));
    let answer = client.send(request).await;
    let (chunks, ended) = frames(&answer.text);
    assert!(ended, "{}", answer.text);
    let pieces: Vec<&str> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(pieces.len() > 2, "{}", answer.text);
    assert_eq!(pieces.concat(), whole);
    assert!(chunks.last().unwrap()["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{}", answer.text);

    let frames = told(&client, "/api/v1/ai/stream", asked(json!({})), "done").await;
    let pieces: Vec<&str> = frames.iter().map(|frame| frame["content"].as_str().unwrap()).collect();
    assert_eq!(pieces.concat(), whole);
    assert_eq!(frames.last().unwrap()["finish_reason"], "stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_model_goes_on_from_a_prompt_and_chats_with_a_history() {
    let world = World::new().await;
    let (api, _worker) = without_a_key(&world).await;
    let Member { client, .. } = world.member(&api).await;
    let prompt = json!({ "prompt": PARIS, "max_tokens": 24, "temperature": 0, "n": 2, "stop": "Paris" });
    let generated = client.post("/ai/generate", prompt).await.expect(200);
    let choices = generated["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    for choice in choices {
        assert!(!choice["text"].as_str().unwrap().contains("Paris"), "{generated}");
        assert_eq!(choice["finish_reason"], "stop");
    }

    let message = json!({ "message": PARIS, "max_tokens": 24, "temperature": 0 });
    let reply = client.post("/chat", message.clone()).await.expect(200);
    assert!(reply["message"].as_str().unwrap().contains("Paris"), "{reply}");
    let frames = told(&client, "/ws", json!({ "type": "chat", "data": message }), "chat_response").await;
    assert!(frames.last().unwrap()["data"]["message"].as_str().unwrap().contains("Paris"), "{frames:?}");
    let history = client.get("/chat/history").await.expect(200);
    assert_eq!(history["pagination"]["total"], 2);
    assert_eq!(history["data"][1]["response"], reply["message"]);
}
