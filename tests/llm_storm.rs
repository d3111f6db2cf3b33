//! Many jobs at once against a provider that takes few calls.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use futures_util::future::join_all;
use harness::{LlmPeer, World};
use shared::{
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker},
    models::{JobStatus, NewJob},
};
use std::time::Duration;

/// The calls at once that the catalogue of the tests allows.
const CONCURRENCY: usize = 64;

const JOBS: usize = 150;

/// Two workers with 64 slots each, all of which want to call at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_jobs_ends_with_one_charged_attempt_each() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    peer.set_bucket(40.0, 8.0);
    peer.set_latency(Duration::from_millis(20));
    let new = |number: usize| {
        let chat = ChatCompletion {
            endpoint: Endpoint::AiChat,
            model: "peer-model".to_owned(),
            messages: vec![ChatMessage { role: Speaker::User, content: format!("storm {number}.") }],
            max_tokens: 50,
            temperature: 0.7,
            top_p: 1.0,
            stream: false,
        };
        NewJob::new(tenant.user, tenant.organization, tenant.weight, Payload::ChatCompletion(chat))
    };
    let jobs: Vec<_> = (0..JOBS).map(new).collect();
    join_all(jobs.iter().map(|job| world.insert(job))).await;
    let tickets: Vec<_> = jobs.iter().map(NewJob::ticket).collect();
    world.queue("ai").push(&tickets).await.unwrap();

    let file = world.llm_file(&peer);
    let settings = [("ATELIER_LLM_FILE", file.as_str())];
    let _workers =
        [world.worker_with(&["interactive"], &settings).await, world.worker_with(&["interactive"], &settings).await];
    world.drain().await;

    for (number, new) in jobs.iter().enumerate() {
        let job = world.job(new.id).await;
        assert_eq!((job.status, job.attempt - job.forgiven), (JobStatus::Completed, 1), "{:?}", job.errors);
        assert_eq!(peer.completed_with(&format!("storm {number}.")), 1, "paid once");
    }
    let after_the_first = peer.refused().saturating_sub(1);
    assert!(peer.refused() > 0, "the storm met the limit");
    assert!(after_the_first < CONCURRENCY, "{after_the_first} times 429 after the first");
}
