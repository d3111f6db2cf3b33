//! Answers that are published while they come.

use super::fixture::{answer_text, chat, new_job, worker};
use futures_util::StreamExt;
use harness::{Fault, LlmPeer, Tenant, World};
use shared::{
    events::{self, Tokens},
    kind::{ChatCompletion, Payload},
    models::{Job, JobStatus},
};
use std::time::Duration;

/// Hears the tokens of a job until it has ended and nothing more can come.
async fn streamed(world: &World, tenant: &Tenant, asked: ChatCompletion) -> (Job, Vec<Tokens>) {
    let new = new_job(tenant, Payload::ChatCompletion(asked));
    let client = redis::Client::open(world.servers.redis()).unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    // one connection: the end of the job comes after its last token
    pubsub.subscribe(events::tokens_channel(&world.prefix, new.id)).await.unwrap();
    pubsub.subscribe(events::channel(&world.prefix, new.id)).await.unwrap();
    world.insert(&new).await;
    world.queue("ai").push(&[new.ticket()]).await.unwrap();
    let mut heard = Vec::new();
    let mut messages = pubsub.on_message();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(60), messages.next()).await.unwrap().unwrap();
        let text: String = message.get_payload().unwrap();
        match serde_json::from_str::<Tokens>(&text) {
            Ok(tokens) => heard.push(tokens),
            Err(_) => return (world.wait_for_status(new.id, JobStatus::Completed).await, heard),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_streamed_is_what_is_stored() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.set_pace(Duration::from_millis(5));
    let words = (0..40).map(|word| format!("wörd{word}")).collect::<Vec<_>>().join(" ");
    let asked = ChatCompletion { stream: true, max_tokens: 500, ..chat(&words) };
    let (job, heard) = streamed(&world, &tenant, asked).await;

    assert!(heard.len() > 1, "it came in pieces");
    let mut text = String::new();
    for tokens in &heard {
        assert_eq!((tokens.attempt, tokens.offset), (1, text.len()));
        text.push_str(&tokens.text);
    }
    assert_eq!(text, answer_text(&job));
    assert_eq!(text, format!("answer to: {words}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_begins_anew_in_another_attempt() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_next([Fault::Cut]);
    let asked = ChatCompletion { stream: true, ..chat("one two three four five six") };
    let (job, heard) = streamed(&world, &tenant, asked).await;

    assert_eq!((job.attempt, peer.received()), (2, 2));
    assert_eq!(job.errors[0]["code"], "llm_truncated");
    let text = |attempt| heard.iter().filter(|t| t.attempt == attempt).map(|t| t.text.as_str()).collect::<String>();
    assert!(answer_text(&job).starts_with(&text(1)) && !text(1).is_empty());
    assert_eq!(text(2), answer_text(&job));
    assert_eq!(heard.iter().find(|tokens| tokens.attempt == 2).unwrap().offset, 0);
}
