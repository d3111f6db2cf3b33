//! Calls to providers of language models: what is sent, what comes back, everything that can go wrong on the way, and
//! the governor that keeps many workers within what a provider gives.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use bytes::Bytes;
use harness::{Fault, LlmPeer, World, eventually};
use serde_json::json;
use shared::{config::Reader, kind::Speaker, llm::Catalogue};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};
use worker::llm::{ErrorKind, Finish, Hold, LlmError, Message, Part, Providers, Request, Said};

/// A peer, the catalogue that names it, and one worker's way to it.
struct Scene {
    world: World,
    peer: LlmPeer,
    catalogue: Catalogue,
    providers: Providers,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(changes: &[(&str, &str)]) -> Self {
        let (world, peer) = (World::new().await, LlmPeer::start().await);
        let catalogue = catalogue(&world.llm_file_with(&peer, changes), &[]);
        let providers = Providers::new(world.redis.clone(), &world.prefix).unwrap();
        Self { world, peer, catalogue, providers }
    }

    /// Another worker.
    fn another(&self) -> Providers {
        Providers::new(self.world.redis.clone(), &self.world.prefix).unwrap()
    }

    async fn ask(&self, request: &Request) -> Result<Said, LlmError> {
        ask(&self.providers, &self.catalogue, request).await
    }

    /// The answer as it was streamed, and what the call ended with.
    async fn stream(&self, request: &Request) -> (String, Result<Said, LlmError>) {
        let served = self.catalogue.find_served(&request.model).unwrap();
        let permit = self.providers.admit(served.provider).await.unwrap_or_else(|hold| unreachable!("{hold:?}"));
        let (tokens, mut pieces) = mpsc::channel(1);
        let call = self.providers.send(permit, served, request, Some(tokens));
        let listen = async {
            let mut text = String::new();
            while let Some(piece) = pieces.recv().await {
                text.push_str(&piece);
            }
            text
        };
        let (said, text) = tokio::join!(call, listen);
        (text, said)
    }

    /// What the governor says to one more call; its leave is given back.
    async fn hold(&self, providers: &Providers, model: &str) -> Option<Hold> {
        providers.admit(self.catalogue.find_served(model).unwrap().provider).await.err()
    }
}

fn catalogue(file: &str, variables: &[(&str, &str)]) -> Catalogue {
    let file = [("ATELIER_LLM_FILE", file)];
    let variables = variables.iter().chain(&file);
    let mut from = Reader::new(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let catalogue = Catalogue::read(&mut from);
    from.finish(catalogue).unwrap()
}

async fn ask(providers: &Providers, catalogue: &Catalogue, request: &Request) -> Result<Said, LlmError> {
    let served = catalogue.find_served(&request.model).unwrap();
    let permit = providers.admit(served.provider).await.unwrap_or_else(|hold| unreachable!("{hold:?}"));
    providers.send(permit, served, request, None).await
}

fn request(model: &str, text: &str) -> Request {
    Request {
        model: model.to_owned(),
        messages: vec![said_by(Speaker::User, text)],
        max_tokens: 100,
        temperature: 0.5,
        top_p: 1.0,
        stop: Vec::new(),
    }
}

fn said_by(role: Speaker, text: &str) -> Message {
    Message { role, parts: vec![Part::Text(text.to_owned())] }
}

/// A model of each dialect.
const ALL: [&str; 3] = ["peer-model", "peer-claude", "peer-llama"];

/// The dialects that stream events.
const BOTH: [&str; 2] = ["peer-model", "peer-claude"];

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_carries_the_conversation_and_brings_the_answer_with_its_counts() {
    let scene = Scene::new().await;
    for model in ALL {
        let mut request = request(model, "three little words");
        request.messages.insert(0, said_by(Speaker::System, "Be brief."));
        let said = scene.ask(&request).await.unwrap();
        assert_eq!(said.text, LlmPeer::answer("three little words"));
        assert_eq!((said.finish, said.prompt_tokens, said.completion_tokens), (Finish::Stop, 5, 5), "{model}");
        assert!(!said.estimated);
        let (text, streamed) = scene.stream(&request).await;
        assert_eq!(streamed.unwrap(), said, "{model}: streamed and whole are the same");
        assert_eq!(text, said.text);
    }
    let bodies: Vec<_> = scene.peer.calls().into_iter().map(|call| call.body).collect();
    assert_eq!(bodies[0]["model"], "peer-model");
    assert_eq!(bodies[0]["messages"][0], json!({ "role": "system", "content": "Be brief." }));
    assert_eq!((&bodies[0]["max_tokens"], &bodies[0]["temperature"]), (&json!(100), &json!(0.5)));
    assert_eq!(bodies[1]["stream_options"]["include_usage"], true);
    assert_eq!(bodies[2]["max_tokens"], 100, "Anthropic takes no request without it");
    assert!(bodies[2]["system"].to_string().contains("Be brief."));
    assert_eq!(bodies[4]["options"]["num_predict"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_at_its_limit_or_at_a_stop_sequence() {
    let scene = Scene::new().await;
    for model in ALL {
        let mut short = request(model, "one two three");
        short.max_tokens = 2;
        // with the space at its end, whole and streamed
        let said = scene.ask(&short).await.unwrap();
        assert_eq!((said.text.as_str(), said.finish), ("answer to: ", Finish::Length));
        let (text, streamed) = scene.stream(&short).await;
        assert_eq!((text.as_str(), streamed.unwrap().finish), ("answer to: ", Finish::Length));
        let mut stopped = request(model, "one two three");
        stopped.stop = vec!["two".to_owned()];
        let said = scene.ask(&stopped).await.unwrap();
        assert_eq!((said.text.as_str(), said.finish), ("answer to: one ", Finish::Stop));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_temperature_and_top_p_goes_to_anthropic_and_both_to_others() {
    let scene = Scene::new().await;
    for model in BOTH {
        let mut request = request(model, "x");
        request.top_p = 0.5;
        scene.ask(&request).await.unwrap();
    }
    let calls = scene.peer.calls();
    assert_eq!((&calls[0].body["top_p"], &calls[0].body["temperature"]), (&json!(0.5), &json!(0.5)));
    assert_eq!((&calls[1].body["top_p"], &calls[1].body["temperature"]), (&json!(0.5), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_along_in_the_shape_of_its_dialect() {
    let scene = Scene::new().await;
    let seen = |model| {
        let mut request = request(model, "what is it?");
        let image = Part::Image { content_type: "image/png".to_owned(), bytes: Bytes::from_static(b"pixels") };
        request.messages[0].parts.push(image);
        request
    };
    for model in BOTH {
        assert_eq!(scene.ask(&seen(model)).await.unwrap().text, LlmPeer::answer("what is it? [image]"));
    }
    scene.ask(&seen("peer-llama")).await.unwrap();
    let part = |call: usize| scene.peer.calls()[call].body["messages"][0]["content"][1].clone();
    assert_eq!(part(0)["type"], "image_url");
    assert_eq!(part(0)["image_url"]["url"], "data:image/png;base64,cGl4ZWxz");
    assert_eq!(part(1)["source"], json!({ "type": "base64", "media_type": "image/png", "data": "cGl4ZWxz" }));
    assert_eq!(scene.peer.calls()[2].body["messages"][0]["images"], json!(["cGl4ZWxz"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_provider_does_not_count_are_guessed_and_marked() {
    let scene = Scene::new().await;
    scene.peer.leave_out_usage();
    let request = request("peer-model", "12345678");
    let said = scene.ask(&request).await.unwrap();
    assert_eq!((said.estimated, said.prompt_tokens, said.completion_tokens), (true, 2, 5));
    assert_eq!(scene.stream(&request).await.1.unwrap(), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_has_its_kind_whole_and_streamed() {
    let scene = Scene::new().await;
    let table = [
        (400, ErrorKind::BadRequest),
        (401, ErrorKind::Auth),
        (403, ErrorKind::Auth),
        (404, ErrorKind::NotFound),
        (408, ErrorKind::Timeout),
        (422, ErrorKind::BadRequest),
        (500, ErrorKind::Server),
        (503, ErrorKind::Overloaded),
        (529, ErrorKind::Overloaded),
        (302, ErrorKind::BadResponse),
    ];
    for model in ALL {
        for (status, kind) in table {
            scene.peer.fail_next([Fault::Status(status), Fault::Status(status)]);
            let whole = scene.ask(&request(model, "x")).await.unwrap_err();
            let (text, streamed) = scene.stream(&request(model, "x")).await;
            assert_eq!((whole.kind, whole.status), (kind, Some(status)), "{model}");
            assert_eq!(streamed.unwrap_err(), whole, "{model}");
            assert_eq!(text, "");
            // so that failures in a row do not open the circuit
            scene.ask(&request(model, "well")).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_are_told_from_whole_ones() {
    let scene = Scene::new().await;
    for model in BOTH {
        for (fault, whole, streamed) in [
            (Fault::Html, ErrorKind::BadResponse, ErrorKind::Truncated),
            (Fault::Empty, ErrorKind::BadResponse, ErrorKind::Truncated),
            (Fault::BrokenJson, ErrorKind::BadResponse, ErrorKind::BadResponse),
            (Fault::Disconnect, ErrorKind::Connect, ErrorKind::Connect),
            (Fault::Break, ErrorKind::Truncated, ErrorKind::Truncated),
            (Fault::Cut, ErrorKind::Truncated, ErrorKind::Truncated),
        ] {
            scene.peer.fail_next([fault.clone(), fault.clone()]);
            let request = request(model, "a prompt of some words");
            let error = scene.ask(&request).await.unwrap_err();
            assert_eq!(error.kind, whole, "{model} {fault:?}: {error}");
            let error = scene.stream(&request).await.1.unwrap_err();
            assert_eq!(error.kind, streamed, "{model} {fault:?} streamed: {error}");
            assert!(whole.is_passing() && streamed.is_passing());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_end_marker_is_truncated_and_an_error_inside_is_an_error() {
    let scene = Scene::new().await;
    for model in BOTH {
        scene.peer.fail_next([Fault::NoEnd, Fault::ErrorEvent]);
        let request = request(model, "a prompt of some words");
        let (text, error) = scene.stream(&request).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::Truncated, "{model}");
        assert_eq!(text, LlmPeer::answer("a prompt of some words"), "all of it had come");
        let error = scene.stream(&request).await.1.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Server, "{model}: {error}");
        assert!(error.message.contains("told to fail"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_lines_that_stops_early_is_truncated() {
    let scene = Scene::new().await;
    for fault in [Fault::NoEnd, Fault::Cut, Fault::Break, Fault::ErrorEvent] {
        scene.peer.fail_next([fault.clone()]);
        let error = scene.stream(&request("peer-llama", "a prompt of some words")).await.1.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated, "{fault:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_timeout_and_nobody_there_is_no_connection() {
    let scene = Scene::with(&[("timeout_seconds = 60", "timeout_seconds = 1")]).await;
    for model in BOTH {
        scene.peer.fail_next([Fault::Hang, Fault::Hang]);
        assert_eq!(scene.ask(&request(model, "x")).await.unwrap_err().kind, ErrorKind::Timeout);
        assert_eq!(scene.stream(&request(model, "x")).await.1.unwrap_err().kind, ErrorKind::Timeout);
    }
    scene.peer.set_pace(Duration::from_secs(30));
    let (text, error) = scene.stream(&request("peer-model", "slow words")).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(text, "answer ", "the first piece came in time");
    assert_eq!(scene.ask(&request("peer-away", "x")).await.unwrap_err().kind, ErrorKind::Connect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_given_up_when_nobody_listens_any_more() {
    let scene = Scene::new().await;
    scene.peer.set_pace(Duration::from_secs(30));
    let served = scene.catalogue.find_served("peer-model").unwrap();
    let permit = scene.providers.admit(served.provider).await.unwrap();
    let (tokens, mut pieces) = mpsc::channel(1);
    let request = request("peer-model", "many words");
    let call = scene.providers.send(permit, served, &request, Some(tokens));
    let leave = async {
        assert_eq!(pieces.recv().await.unwrap(), "answer ");
        drop(pieces);
    };
    let (said, ()) = tokio::join!(call, leave);
    assert_eq!(said.unwrap_err().kind, ErrorKind::Truncated);
    assert_eq!(scene.peer.completed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_holds_the_stream_back() {
    let scene = Scene::new().await;
    let served = scene.catalogue.find_served("peer-model").unwrap();
    let permit = scene.providers.admit(served.provider).await.unwrap();
    let (tokens, mut pieces) = mpsc::channel(1);
    let request = request("peer-model", "more words than the channel has room for");
    let call = scene.providers.send(permit, served, &request, Some(tokens.clone()));
    let listen = async {
        // the channel is full, and stays so until somebody reads
        eventually("a full channel", async || (tokens.capacity() == 0).then_some(())).await;
        drop(tokens);
        let mut text = String::new();
        while let Some(piece) = pieces.recv().await {
            text.push_str(&piece);
        }
        text
    };
    let (said, text) = tokio::join!(call, listen);
    assert_eq!(said.unwrap().text, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_sent_and_never_shown() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let file = world.llm_file_with(&peer, &[("concurrency = 64", "concurrency = 64\nkey_env = \"PEER_KEY\"")]);
    let catalogue = catalogue(&file, &[("PEER_KEY", "sk-very-secret")]);
    let providers = Providers::new(world.redis.clone(), &world.prefix).unwrap();
    for model in BOTH {
        ask(&providers, &catalogue, &request(model, "x")).await.unwrap();
        peer.fail_next([Fault::StatusWith(401, "x-note", "no".to_owned())]);
        let error = ask(&providers, &catalogue, &request(model, "x")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth);
        assert!(error.message.contains("told to answer 401 to"), "{error}");
        assert!(!format!("{error:?}").contains("sk-very-secret"), "though the peer repeats it");
    }
    let keys: Vec<_> = peer.calls().into_iter().filter_map(|call| call.key).collect();
    assert_eq!(keys, ["Bearer sk-very-secret", "Bearer sk-very-secret", "sk-very-secret", "sk-very-secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_that_one_worker_sees_holds_all_until_the_time_it_names() {
    let scene = Scene::new().await;
    let another = scene.another();
    scene.peer.fail_next([Fault::StatusWith(429, "retry-after", "7".to_owned())]);
    let error = scene.ask(&request("peer-model", "x")).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    let hold = scene.hold(&another, "peer-model").await.unwrap();
    assert!(hold.after > Duration::from_secs(3), "{hold:?}");
    assert!(hold.after < Duration::from_secs(60), "{hold:?}");
    assert!(hold.reason.contains("rest"), "{hold:?}");
    // the same in a stream, where the status is wrapped up; another provider is not held
    scene.peer.fail_next([Fault::StatusWith(429, "retry-after", "9".to_owned())]);
    let error = scene.stream(&request("peer-claude", "x")).await.1.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(9))));
    assert!(scene.hold(&another, "peer-claude").await.is_some());
    assert!(scene.hold(&another, "peer-away").await.is_none());
    assert_eq!(scene.peer.received(), 2, "nobody asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_answer_that_uses_a_limit_up_holds_all_workers_until_the_reset() {
    let scene = Scene::new().await;
    let another = scene.another();
    scene.peer.announce(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")]);
    scene.ask(&request("peer-model", "first")).await.unwrap();
    let hold = scene.hold(&another, "peer-model").await.unwrap();
    assert!(hold.reason.contains("rest"), "{hold:?}");
    insist(&scene, &another, &request("peer-model", "second")).await;
    let calls = scene.peer.calls();
    assert_eq!((calls.len(), scene.peer.refused()), (2, 0));
    assert!(calls[1].arrived.duration_since(calls[0].arrived) >= Duration::from_secs(2), "not before the reset");
    // in a stream it is heard as soon as the answer begins
    scene.peer.announce(&[
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2999-01-01T00:00:00Z"),
    ]);
    scene.stream(&request("peer-claude", "x")).await.1.unwrap();
    let hold = scene.hold(&another, "peer-claude").await.unwrap();
    assert!(hold.after > Duration::from_secs(60), "{hold:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_fewer_calls_are_left_than_are_open_they_are_spaced_until_the_reset() {
    let scene = Scene::new().await;
    let (another, served) = (scene.another(), scene.catalogue.find_served("peer-model").unwrap());
    let left = |left| [("x-ratelimit-remaining-requests", left), ("x-ratelimit-reset-requests", "40s")];
    scene.peer.announce(&left("1"));
    scene.ask(&request("peer-model", "alone")).await.unwrap();
    assert!(scene.hold(&another, "peer-model").await.is_none(), "one is left for one");
    scene.peer.announce(&left("2"));
    let open =
        [scene.providers.admit(served.provider).await.unwrap(), scene.providers.admit(served.provider).await.unwrap()];
    scene.ask(&request("peer-model", "third")).await.unwrap();
    let hold = scene.hold(&another, "peer-model").await.unwrap();
    assert!(hold.reason.contains("spaced"), "{hold:?}");
    assert!(hold.after > Duration::from_secs(10), "{hold:?}");
    // an answer with more to spare ends it
    scene.peer.announce(&left("100"));
    let [permit, _open] = open;
    scene.providers.send(permit, served, &request("peer-model", "fourth"), None).await.unwrap();
    assert!(scene.hold(&another, "peer-model").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_are_not_told_to_come_back_all_at_once() {
    let scene = Scene::new().await;
    scene.peer.fail_next([Fault::StatusWith(429, "retry-after", "2".to_owned())]);
    scene.ask(&request("peer-model", "x")).await.unwrap_err();
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(scene.hold(&scene.providers, "peer-model").await.unwrap().after);
    }
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*last > *first + Duration::from_millis(500), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_are_open_at_once_than_the_catalogue_allows_over_all_workers() {
    let scene = Scene::with(&[("concurrency = 64", "concurrency = 3")]).await;
    let another = scene.another();
    let provider = scene.catalogue.find_served("peer-model").unwrap().provider;
    let permits = [
        scene.providers.admit(provider).await.unwrap(),
        another.admit(provider).await.unwrap(),
        another.admit(provider).await.unwrap(),
    ];
    let hold = scene.hold(&scene.providers, "peer-model").await.unwrap();
    assert!(hold.reason.contains("taken"), "{hold:?}");
    // a leave that is dropped unused makes room
    drop(permits);
    eventually("room for a call", async || scene.providers.admit(provider).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_dead_worker_come_back() {
    let scene = Scene::with(&[("concurrency = 64", "concurrency = 1")]).await;
    let provider = scene.catalogue.find_served("peer-model").unwrap().provider;
    // a worker that dies does not get to drop anything
    std::mem::forget(scene.providers.admit(provider).await.unwrap());
    assert!(scene.hold(&scene.providers, "peer-model").await.is_some());
    // its deadline passes: 60 seconds for the call and 30 of grace, which nobody wants to wait for here
    let key = format!("{{{}:llm:peer}}:calls", scene.world.prefix);
    let mut redis = scene.world.redis.clone();
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.unwrap();
    assert!((60_000..=90_000).contains(&left), "{left}");
    let calls: Vec<Vec<u8>> = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert_eq!(calls.len(), 1);
    let () = redis::cmd("ZADD").arg(&key).arg(1).arg(&calls[0]).query_async(&mut redis).await.unwrap();
    assert!(scene.hold(&scene.providers, "peer-model").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_again_and_again_is_left_alone_and_then_tried_by_one_call() {
    let scene = Scene::new().await;
    scene.peer.fail_all(Some(Fault::Status(500)));
    for _ in 0..5 {
        assert_eq!(scene.ask(&request("peer-model", "x")).await.unwrap_err().kind, ErrorKind::Server);
    }
    let another = scene.another();
    let hold = scene.hold(&another, "peer-model").await.unwrap();
    assert!(hold.reason.contains("does not answer"), "{hold:?}");
    assert_eq!(scene.peer.received(), 5);
    // its pause passes: one call may try, and nobody beside it
    let ended = async || {
        let key = format!("{{{}:llm:peer}}:state", scene.world.prefix);
        let mut redis = scene.world.redis.clone();
        let () = redis::cmd("HSET").arg(key).arg("open").arg(1).query_async(&mut redis).await.unwrap();
    };
    ended().await;
    let served = scene.catalogue.find_served("peer-model").unwrap();
    let probe = scene.providers.admit(served.provider).await.unwrap();
    assert!(scene.hold(&another, "peer-model").await.is_some());
    // it fails, and the circuit is open again
    scene.providers.send(probe, served, &request("peer-model", "x"), None).await.unwrap_err();
    assert!(scene.hold(&another, "peer-model").await.is_some());
    ended().await;
    scene.peer.fail_all(None);
    scene.ask(&request("peer-model", "x")).await.unwrap();
    assert!(scene.hold(&another, "peer-model").await.is_none(), "closed");
    assert!(scene.hold(&another, "peer-model").await.is_none(), "for everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_spaced_to_the_rate_that_the_catalogue_names() {
    let scene = Scene::with(&[("concurrency = 64", "concurrency = 64\nrequests_per_minute = 6")]).await;
    assert!(scene.hold(&scene.providers, "peer-model").await.is_none());
    let hold = scene.hold(&scene.another(), "peer-model").await.unwrap();
    assert!(hold.after > Duration::from_secs(5), "{hold:?}");
    assert!(hold.reason.contains("spaced"), "{hold:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everybody_may_send() {
    let (world, peer) = (World::with_own_redis().await, LlmPeer::start().await);
    let catalogue = catalogue(&world.llm_file(&peer), &[]);
    let providers = Providers::new(world.redis.clone(), &world.prefix).unwrap();
    ask(&providers, &catalogue, &request("peer-model", "x")).await.unwrap();
    world.redis_server(|redis| redis.kill());
    let said = ask(&providers, &catalogue, &request("peer-model", "x")).await.unwrap();
    assert_eq!(said.text, LlmPeer::answer("x"));
}

/// Eight workers with eight calls each, all at once, against a provider that takes 20 calls a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_calls_finds_the_pace_of_the_provider() {
    const WORKERS: usize = 8;
    const TASKS: usize = 8;
    const CALLS: usize = 3;
    let scene = Arc::new(Scene::new().await);
    scene.peer.set_bucket(20.0, 4.0);
    scene.peer.set_latency(Duration::from_millis(20));
    let mut tasks = JoinSet::new();
    for worker in 0..WORKERS {
        let providers = Arc::new(scene.another());
        for task in 0..TASKS {
            let (scene, providers) = (scene.clone(), providers.clone());
            tasks.spawn(async move {
                for call in 0..CALLS {
                    let request = request("peer-model", &format!("call {worker}.{task}.{call}."));
                    insist(&scene, &providers, &request).await;
                }
            });
        }
    }
    tasks.join_all().await;
    let (calls, refused) = (scene.peer.calls(), scene.peer.refused());
    assert_eq!(scene.peer.completed(), WORKERS * TASKS * CALLS);
    for worker in 0..WORKERS {
        for task in 0..TASKS {
            for call in 0..CALLS {
                assert_eq!(scene.peer.completed_with(&format!("call {worker}.{task}.{call}.")), 1);
            }
        }
    }
    assert!((1..WORKERS * TASKS).contains(&refused), "{refused} times 429");
    // what the bucket would have given in the time that was needed, against what was taken
    let taken = calls.iter().filter_map(|call| call.completed).max().unwrap().duration_since(calls[0].arrived);
    let share = scene.peer.completed() as f64 / (4.0 + 20.0 * taken.as_secs_f64());
    assert!(share > 0.2, "{share:.2} of what the provider gives, {refused} times 429");
}

/// Parks and comes back as a job does, until the call is answered.
async fn insist(scene: &Scene, providers: &Providers, request: &Request) {
    let served = scene.catalogue.find_served(&request.model).unwrap();
    loop {
        let wait = match providers.admit(served.provider).await {
            Err(hold) => hold.after,
            Ok(permit) => match providers.send(permit, served, request, None).await {
                Ok(said) => return assert!(said.text.contains(&request_text(request))),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::RateLimited, "{error}");
                    continue;
                }
            },
        };
        // this is the job's `run_at`, not a guess at when something has happened
        tokio::time::sleep(wait).await;
    }
}

fn request_text(request: &Request) -> String {
    request
        .messages
        .iter()
        .flat_map(|m| &m.parts)
        .map(|p| match p {
            Part::Text(text) => text.clone(),
            Part::Image { .. } => String::new(),
        })
        .collect()
}
