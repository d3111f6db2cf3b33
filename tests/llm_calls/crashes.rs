//! Workers that die and a database that goes away around a call.

use super::fixture::{
    TOKEN_NANOS, answer_text, calls, chat, generation, month, spent, submit, submit_chat, usage, used, worker,
};
use diesel_async::SimpleAsyncConnection;
use harness::{Fault, LlmPeer, World, eventually};
use shared::{
    kind::Payload,
    models::{CallStatus, JobStatus},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_came_before_its_worker_died_is_not_asked_for_again() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let file = world.llm_file(&peer);
    // with this table locked a job cannot end
    let mut lock = shared::db::connect(&world.database()).await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE usage_records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let _scheduler = world.scheduler().await;
    let mut first = world.process(&["worker", "--pool", "interactive"], &[("ATELIER_LLM_FILE", &file)]);
    let id = submit_chat(&world, &tenant, chat("only once")).await;
    eventually("the answer to be recorded", async || {
        calls(&world, id).await.iter().any(|call| call.status == CallStatus::Completed).then_some(())
    })
    .await;
    first.kill();
    lock.batch_execute("ROLLBACK").await.unwrap();

    let _second = worker(&world, &peer).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.attempt, job.errors[0]["code"].as_str().unwrap()), (2, "worker_died"));
    assert_eq!(answer_text(&job), "answer to: only once");
    assert_eq!(peer.received(), 1);
    assert_eq!(calls(&world, id).await[0].sends, 1);
    assert_eq!(usage(&world, id).await, [used("/ai/chat", "completed", 6)]);
    assert_eq!(spent(&month(&world, &tenant).await), [6, 6 * TOKEN_NANOS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_while_postgres_is_away_is_not_lost() {
    let (world, peer) = (World::with_own_postgres().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.hold();
    let id = submit_chat(&world, &tenant, chat("at a bad time")).await;
    eventually("the call to be under way", async || (peer.open() == 1).then_some(())).await;
    world.postgres_server(|postgres| postgres.stop());
    peer.release();
    eventually("the answer to be sent", async || (peer.completed() == 1).then_some(())).await;
    world.postgres_server(|postgres| postgres.start_again());
    // what the test itself had open is gone as well
    while world.pool.get().await.is_err() {}

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.attempt, peer.received()), (1, 1));
    assert_eq!(answer_text(&job), "answer to: at a bad time");
    assert_eq!(spent(&month(&world, &tenant).await), [10, 10 * TOKEN_NANOS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_calls_only_the_one_under_way_is_sent_again_after_a_crash() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let file = world.llm_file(&peer);
    peer.fail_next([Fault::Hang]);
    let _scheduler = world.scheduler().await;
    let mut first = world.process(&["worker", "--pool", "interactive"], &[("ATELIER_LLM_FILE", &file)]);
    let id = submit(&world, &tenant, Payload::TextGeneration(generation("twice", 2))).await;
    eventually("one of two answers to be recorded", async || {
        let calls = calls(&world, id).await;
        (calls.len() == 2 && calls.iter().any(|call| call.status == CallStatus::Completed)).then_some(())
    })
    .await;
    let held = month(&world, &tenant).await.tokens_reserved;
    assert!(held > 0, "the call under way holds what it may cost");
    first.kill();

    let _second = worker(&world, &peer).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.attempt, 2);
    assert_eq!(job.result.unwrap()["choices"].as_array().unwrap().len(), 2);
    assert_eq!((peer.received(), peer.completed()), (3, 2));
    let mut sends: Vec<_> = calls(&world, id).await.iter().map(|call| call.sends).collect();
    sends.sort_unstable();
    assert_eq!(sends, [1, 2]);
    assert_eq!(usage(&world, id).await, [used("/ai/generate", "completed", 8)]);
    assert_eq!(spent(&month(&world, &tenant).await), [8, 8 * TOKEN_NANOS, 0, 0]);
}
