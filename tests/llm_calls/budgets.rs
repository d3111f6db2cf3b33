//! Budgets: what is held for calls under way, and what they cost in the end.

use super::fixture::{
    DOLLAR, TOKEN_NANOS, calls, chat, month, new_job, set_budget, spent, submit_chat, usage, used, worker,
};
use harness::{Fault, LlmPeer, World, eventually};
use shared::{
    kind::Payload,
    models::{Budget, CallStatus, Cancelled, JobStatus, LlmCall, NewJob},
};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_at_once_never_spend_more_than_the_budget_and_all_that_fit_are_answered() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    set_budget(&world, &tenant, "monthly_cost_budget_nanos", DOLLAR).await;
    peer.hold();
    let _worker = worker(&world, &peer).await;
    let asked = || Payload::ChatCompletion(chat("one two three four five six seven eight nine ten"));
    let jobs: Vec<_> = (0..200).map(|_| new_job(&tenant, asked())).collect();
    for job in &jobs {
        world.insert(job).await;
    }
    let tickets: Vec<_> = jobs.iter().map(NewJob::ticket).collect();
    world.queue("ai").push(&tickets).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();

    // as many wait at the peer as the budget can hold
    let bound = eventually("the budget to be taken", async || {
        let sent = calls_of(&world, &ids).await;
        let bound = sent.iter().map(|call| call.reserved_cost_nanos).next()?;
        let budget = month(&world, &tenant).await;
        (budget.cost_reserved_nanos + bound > DOLLAR).then_some(bound)
    })
    .await;
    let budget = month(&world, &tenant).await;
    assert!(budget.cost_reserved_nanos <= DOLLAR, "{budget:?}");
    peer.release();
    world.drain().await;

    let budget = month(&world, &tenant).await;
    let completed = world.count(&ids, JobStatus::Completed).await;
    assert_eq!(completed + world.count(&ids, JobStatus::Failed).await, 200);
    assert_eq!(peer.completed(), completed);
    // ten words in, twelve out
    let cost = 22 * TOKEN_NANOS;
    assert_eq!(budget.cost_used_nanos, i64::try_from(completed).unwrap() * cost);
    assert!(budget.cost_used_nanos <= DOLLAR, "{budget:?}");
    assert!(budget.cost_used_nanos + bound > DOLLAR, "another call would have fitted: {budget:?}");
    assert_eq!((budget.tokens_reserved, budget.cost_reserved_nanos), (0, 0));
    for id in ids {
        let job = world.job(id).await;
        assert!(job.attempt - job.forgiven <= 1, "waiting for a budget charges no attempt: {:?}", job.errors);
        assert!(job.status == JobStatus::Completed || job.error_code.as_deref() == Some("budget_exceeded"));
    }
}

async fn calls_of(world: &World, ids: &[Uuid]) -> Vec<LlmCall> {
    let mut found = Vec::new();
    for id in ids.iter().take(64) {
        found.extend(calls(world, *id).await);
    }
    found.retain(|call| call.status == CallStatus::Sent);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_have_a_budget_of_its_own() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    let new = new_job(&tenant, Payload::ChatCompletion(chat("too dear")));
    world.insert(&new).await;
    let row = world.job(new.id).await;
    Budget::limit_job(&mut *world.conn().await, &row, Some(20), None).await.unwrap();
    world.queue("ai").push(&[new.ticket()]).await.unwrap();

    let job = world.wait_for_status(new.id, JobStatus::Failed).await;
    assert_eq!((job.error_code.as_deref(), job.attempt), (Some("budget_exceeded"), 1));
    assert_eq!(peer.received(), 0);
    assert_eq!(usage(&world, new.id).await, [used("/ai/chat", "failed", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_failed_costs_nothing() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.fail_next([Fault::Status(400)]);
    let id = submit_chat(&world, &tenant, chat("refused")).await;

    let job = world.wait_for_status(id, JobStatus::Failed).await;
    assert_eq!((job.error_code.as_deref(), job.attempt), (Some("llm_bad_request"), 1));
    let recorded = calls(&world, id).await.remove(0);
    assert_eq!((recorded.status, recorded.error_code.as_deref()), (CallStatus::Failed, Some("llm_bad_request")));
    assert_eq!(usage(&world, id).await, [used("/ai/chat", "failed", 0)]);
    assert_eq!(spent(&month(&world, &tenant).await), [0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_dropped_and_gives_back_what_it_held() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let tenant = world.tenant(1).await;
    let _worker = worker(&world, &peer).await;
    peer.hold();
    let id = submit_chat(&world, &tenant, chat("never mind")).await;
    eventually("the call to be under way", async || (peer.open() == 1).then_some(())).await;
    assert!(month(&world, &tenant).await.cost_reserved_nanos > 0);

    assert!(matches!(world.cancel(&tenant, id).await, Cancelled::Requested));
    world.wait_for_status(id, JobStatus::Cancelled).await;
    eventually("the connection to be closed", async || (peer.open() == 0).then_some(())).await;
    assert_eq!(spent(&month(&world, &tenant).await), [0, 0, 0, 0]);
    assert_eq!(usage(&world, id).await, [used("/ai/chat", "failed", 0)]);
    assert_eq!(calls(&world, id).await[0].status, CallStatus::Failed);
    peer.release();
}
