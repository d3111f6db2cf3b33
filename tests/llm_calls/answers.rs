//! What jobs answer, and what they do when a model does not.

use super::fixture::{
    TOKEN_NANOS, answer_text, calls, chat, generation, month, spent, submit, submit_chat, usage, used, worker,
};
use diesel::{
    QueryableByName,
    sql_types::{Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use harness::{Fault, LlmPeer, World, assert_whole};
use serde_json::{Value, json};
use shared::{
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker, TextGeneration},
    models::{CallStatus, JobStatus},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_chat_is_recorded_paid_for_and_kept_as_history() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let mut asked = ChatCompletion { endpoint: Endpoint::Chat, ..chat("hello there") };
    asked.messages.insert(0, ChatMessage { role: Speaker::System, content: "be brief".to_owned() });
    let id = submit_chat(&world, &tenant, asked).await;

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    let result = job.result.unwrap();
    // the peer counts words: four in the prompt, four in the answer
    assert_eq!(
        result["choices"],
        json!([{ "index": 0, "message": { "role": "assistant", "content": "answer to: hello there" },
                 "finish_reason": "stop" }])
    );
    assert_eq!(result["usage"], json!({ "prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8 }));
    let metadata = &result["metadata"];
    assert_eq!(metadata["provider"], "peer");
    assert_eq!((&metadata["cost"], &metadata["local"]), (&json!(0.008), &json!(false)));
    assert_eq!(metadata["fallbacks"], json!([]));
    assert_whole(&world.events(id).await, JobStatus::Completed);

    let recorded = calls(&world, id).await.remove(0);
    assert_eq!((recorded.call.as_str(), recorded.status, recorded.sends), ("answer", CallStatus::Completed, 1));
    assert_eq!((recorded.prompt_tokens, recorded.completion_tokens), (4, 4));
    assert_eq!((recorded.reserved_tokens, recorded.reserved_cost_nanos), (0, 0));
    assert_eq!(usage(&world, id).await, [used("/chat", "completed", 8)]);
    assert_eq!(spent(&month(&world, &tenant).await), [8, 8 * TOKEN_NANOS, 0, 0]);

    #[derive(QueryableByName)]
    struct Entry {
        #[diesel(sql_type = Text)]
        message: String,
        #[diesel(sql_type = Text)]
        response: String,
    }
    let entries: Vec<Entry> = diesel::sql_query("SELECT message, response FROM chat_entries WHERE user_id = $1")
        .bind::<SqlUuid, _>(tenant.user)
        .load(&mut *world.conn().await)
        .await
        .unwrap();
    let entries: Vec<_> = entries.iter().map(|entry| (entry.message.as_str(), entry.response.as_str())).collect();
    assert_eq!(entries, [("hello there", "answer to: hello there")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_stumbles_is_asked_again_in_the_same_attempt() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_next([Fault::Status(500), Fault::BrokenJson]);
    let id = submit_chat(&world, &tenant, chat("again")).await;

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.attempt, 1);
    assert_eq!(calls(&world, id).await[0].sends, 3);
    assert_eq!(spent(&month(&world, &tenant).await), [4, 4 * TOKEN_NANOS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_a_provider_asks_for_charges_no_attempt() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_next([Fault::StatusWith(429, "retry-after", "1".to_owned())]);
    let id = submit_chat(&world, &tenant, chat("slowly")).await;

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.attempt - job.forgiven, 1);
    assert!(job.forgiven >= 1);
    assert_eq!(peer.received(), 2);
    assert_eq!(spent(&month(&world, &tenant).await), [4, 4 * TOKEN_NANOS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_answers_in_place_of_a_provider_that_is_away_and_the_result_says_so() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let asked = ChatCompletion { model: "peer-fallback".to_owned(), ..chat("anybody") };
    let id = submit_chat(&world, &tenant, asked).await;

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(answer_text(&job), "answer to: anybody");
    let metadata = &job.result.as_ref().unwrap()["metadata"];
    assert_eq!((&metadata["model"], &metadata["provider"]), (&json!("peer-fallback"), &json!("peer")));
    let fallbacks = metadata["fallbacks"].as_array().unwrap();
    assert_eq!(fallbacks.len(), 1);
    assert!(fallbacks[0].as_str().unwrap().starts_with("peer-fallback: "), "{fallbacks:?}");
    assert_eq!(usage(&world, id).await[0].model, "peer-fallback");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_fails_at_once() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let id = submit_chat(&world, &tenant, ChatCompletion { model: "nobody".to_owned(), ..chat("hello") }).await;
    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!((job.error_code.as_deref(), job.attempt), (Some("llm_model_unknown"), 1));
    assert_eq!(usage(&world, id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_has_exactly_as_many_versions_as_were_asked_for_and_ends_before_its_stop_sequence() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let asked = TextGeneration { stop: vec![" two".to_owned()], ..generation("one two three", 6) };
    let id = submit(&world, &tenant, Payload::TextGeneration(asked)).await;
    let short = TextGeneration { max_tokens: 2, ..generation("one two three", 1) };
    let short = submit(&world, &tenant, Payload::TextGeneration(short)).await;

    let result = world.wait_for_status(id, JobStatus::Completed).await.result.unwrap();
    let choice = |index| json!({ "text": "answer to: one", "index": index, "finish_reason": "stop" });
    assert_eq!(result["choices"], Value::Array((0..6).map(choice).collect()));
    assert_eq!(result["usage"], json!({ "prompt_tokens": 18, "completion_tokens": 18, "total_tokens": 36 }));
    assert!(peer.max_concurrency() <= 5, "four of one job, one of the other");
    assert_eq!(usage(&world, id).await, [used("/ai/generate", "completed", 36)]);
    let result = world.wait_for_status(short, JobStatus::Completed).await.result.unwrap();
    assert_eq!(result["choices"], json!([{ "text": "answer to: ", "index": 0, "finish_reason": "length" }]));
}
