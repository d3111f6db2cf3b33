//! Every door to a model, from the request through queue, worker and provider to the answer and what is kept of it.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Api, Events, Fault, LlmPeer, Running, Socket, World, eventually};
use serde_json::{Value, json};

/// A provider, and an API and a worker that know it.
struct House {
    peer: LlmPeer,
    api: Api,
    worker: Running,
}

impl House {
    async fn new(world: &World) -> Self {
        let peer = LlmPeer::start().await;
        let file = world.llm_file(&peer);
        let settings = [("ATELIER_LLM_FILE", file.as_str())];
        Self {
            api: world.api_with(&settings).await,
            worker: world.worker_with(&["interactive"], &settings).await,
            peer,
        }
    }
}

fn streamed(content: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }], "model": "peer-model", "stream": true })
}

/// Reads a stream to its end: the text, and the last chunk.
async fn read(mut events: Events) -> (String, Value) {
    let (mut text, mut last) = (String::new(), Value::Null);
    while let Some(data) = events.next().await {
        if data == "[DONE]" {
            assert_eq!(events.next().await, None);
            return (text, last);
        }
        last = serde_json::from_str(&data).unwrap();
        text.push_str(last["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    (text, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_answers_and_leaves_one_record() {
    let world = World::new().await;
    let House { peer, api, worker } = House::new(&world).await;
    let client = world.member(&api).await.client;

    let chat = json!({ "messages": [{ "role": "user", "content": "one" }], "model": "peer-model" });
    let answer = client.post("/ai/chat", chat.clone()).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], LlmPeer::answer("one"));
    assert_eq!(answer["metadata"]["local"], false);
    assert!(answer["metadata"]["cost"].as_f64().unwrap() > 0.0);

    let prompt = json!({ "prompt": "two", "model": "peer-model", "n": 2, "stop": "two" });
    let answer = client.post("/ai/generate", prompt).await.expect(200);
    let texts: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["answer to: ", "answer to: "], "it ends before the stop text");

    let (text, last) = read(Events::open(&client, streamed("three")).await).await;
    assert_eq!(text, LlmPeer::answer("three"));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert!(last["usage"]["total_tokens"].as_i64().unwrap() > 0);

    let mut socket = Socket::enter(&client, "/api/v1/ai/stream").await;
    socket.send(chat).await;
    let mut text = String::new();
    let done = loop {
        let frame = socket.frame().await;
        if frame["type"] != "delta" {
            break frame;
        }
        text.push_str(frame["content"].as_str().unwrap());
    };
    assert_eq!((&done["type"], text), (&json!("done"), LlmPeer::answer("one")));

    let say = json!({ "message": "four", "model": "peer-model" });
    let answer = client.post("/chat", say).await.expect(200);
    assert_eq!(answer["message"], LlmPeer::answer("four"));
    let mut socket = Socket::enter(&client, "/ws").await;
    socket.send(json!({ "type": "chat", "data": { "message": "five", "model": "peer-model" } })).await;
    assert_eq!(socket.frame().await["data"]["message"], LlmPeer::answer("five"));
    let last = peer.calls().pop().unwrap();
    assert!(last.prompt.contains("four"), "what was said before went along: {}", last.prompt);

    let history = client.get("/chat/history?sort=asc").await.expect(200);
    let said: Vec<_> = history["data"].as_array().unwrap().iter().map(|entry| &entry["message"]).collect();
    assert_eq!(said, ["four", "five"]);
    assert_eq!(history["data"][0]["id"], answer["id"]);
    let records = client.get("/usage?sort=asc").await.expect(200);
    let doors: Vec<_> = records["data"].as_array().unwrap().iter().map(|record| &record["endpoint"]).collect();
    assert_eq!(doors, ["/ai/chat", "/ai/generate", "/ai/chat", "/ai/stream", "/chat", "/ws"]);
    let sums = client.get("/ai/usage").await.expect(200);
    assert_eq!((&sums["usage"]["total_requests"], &sums["quota"]["daily"]["used"]), (&json!(6), &json!(6)));
    let listed: i64 =
        records["data"].as_array().unwrap().iter().map(|record| record["total_tokens"].as_i64().unwrap()).sum();
    assert_eq!(sums["usage"]["total_tokens"], listed);
    assert_eq!(peer.received(), 7, "two for the two versions");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_is_a_failed_request_and_costs_nothing() {
    let world = World::new().await;
    let House { peer, api, worker } = House::new(&world).await;
    let client = world.member(&api).await.client;
    let chat = json!({ "messages": [{ "role": "user", "content": "one" }], "model": "peer-model" });
    peer.fail_next([Fault::Status(401)]);
    assert_eq!(client.post("/ai/chat", chat.clone()).await.error(502), "AI_SERVICE_ERROR");
    peer.fail_next([Fault::Status(400)]);
    assert_eq!(client.post("/ai/chat", chat).await.error(400), "VALIDATION_ERROR");
    let records = client.get("/usage").await.expect(200);
    for record in records["data"].as_array().unwrap() {
        let charged = (&record["total_tokens"], &record["cost"]);
        assert_eq!((&record["status"], charged), (&json!("failed"), (&json!(0), &json!(0.0))));
    }
    assert_eq!(records["pagination"]["total"], 2);
    assert_eq!(client.get("/ai/usage").await.expect(200)["quota"]["daily"]["used"], 0, "the quota is given back");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_ends_the_call_at_the_provider() {
    let world = World::new().await;
    let House { peer, api, worker } = House::new(&world).await;
    let client = world.member(&api).await.client;
    peer.hold();
    let mut socket = Socket::enter(&client, "/api/v1/ai/stream").await;
    socket.send(streamed("one")).await;
    eventually("the provider to be called", async || (peer.open() == 1).then_some(())).await;
    socket.0.close(None).await.unwrap();
    eventually("the call to be given up", async || (peer.open() == 0).then_some(())).await;
    world.drain().await;
    peer.release();
    assert_eq!((peer.received(), peer.completed()), (1, 0), "nor is it asked for again");
    worker.stop().await;
}
