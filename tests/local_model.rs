//! The small language model that `atelier up` starts, asked as any provider is.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::Servers;
use serde_json::{Value, json};
use standalone::services::Service;
use std::time::Duration;
use tokio::task::spawn_blocking;

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
