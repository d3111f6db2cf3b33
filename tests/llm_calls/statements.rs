//! The statements themselves, without a worker.

use super::fixture::{TOKEN_NANOS, calls, chat, month, new_job, set_budget, spent, usage, used};
use chrono::NaiveDate;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::join_all;
use harness::{Tenant, World, eventually};
use serde_json::json;
use shared::{
    kind::{Endpoint, Payload},
    models::{Budget, CallStatus, Closing, Ending, Finish, Job, LlmCall, Outgoing, Reserved},
};

/// A job that nobody but the test works on, claimed.
async fn claimed(world: &World, tenant: &Tenant) -> Job {
    let new = new_job(tenant, Payload::ChatCompletion(chat("by hand")));
    world.insert(&new).await;
    Job::claim(&mut *world.conn().await, &[new.id], "a test", 3).await.unwrap().pop().unwrap()
}

fn outgoing<'a>(job: &Job, call: &'a str, tokens: i64) -> Outgoing<'a> {
    Outgoing {
        job_id: job.id,
        attempt: job.attempt,
        call,
        request_hash: b"hash",
        endpoint: Endpoint::AiChat,
        model: "peer-model",
        provider: "peer",
        answered_by: "peer-model",
        tokens,
        cost_nanos: tokens * TOKEN_NANOS,
    }
}

fn closing(job: &Job, call: &str, tokens: i64) -> Closing {
    Closing {
        job_id: job.id,
        attempt: job.attempt,
        call: call.to_owned(),
        answer: Ok(json!({ "text": "yes" })),
        prompt_tokens: tokens,
        completion_tokens: 0,
        cost_nanos: tokens * TOKEN_NANOS,
        latency_ms: 1,
    }
}

async fn finish(conn: &mut AsyncPgConnection, job: &Job) {
    let finish = Finish { id: job.id, kind: job.kind, attempt: job.attempt, ending: Ending::Cancelled };
    assert_eq!(Job::finish(conn, &[finish]).await.unwrap().events.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_made_at_once_fill_a_budget_to_the_last_token_and_no_further() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    set_budget(&world, &tenant, "monthly_token_budget", 1_000).await;
    let job = claimed(&world, &tenant).await;
    let keys: Vec<_> = (0..100).map(|key| key.to_string()).collect();
    let reserve = async |key: &String| {
        let mut conn = world.conn().await;
        LlmCall::reserve(&mut conn, &outgoing(&job, key, 50)).await.unwrap()
    };
    let reserved = join_all(keys.iter().map(reserve)).await;
    assert_eq!(reserved.iter().filter(|reserved| **reserved == Reserved::Sent).count(), 20);
    assert_eq!(reserved.iter().filter(|reserved| **reserved == Reserved::Taken).count(), 80);
    assert_eq!(month(&world, &tenant).await.tokens_reserved, 1_000);

    let mut conn = world.conn().await;
    assert_eq!(LlmCall::reserve(&mut conn, &outgoing(&job, "huge", 1_001)).await.unwrap(), Reserved::Exceeded);
    finish(&mut conn, &job).await;
    assert_eq!(month(&world, &tenant).await.tokens_reserved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_sent_again_keeps_what_it_holds_and_holds_it_once() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    set_budget(&world, &tenant, "monthly_token_budget", 100).await;
    let job = claimed(&world, &tenant).await;
    let mut conn = world.conn().await;
    for _ in 0..3 {
        assert_eq!(LlmCall::reserve(&mut conn, &outgoing(&job, "a", 60)).await.unwrap(), Reserved::Sent);
        assert_eq!(month(&world, &tenant).await.tokens_reserved, 60);
    }
    // a dearer model is asked in its place
    assert_eq!(LlmCall::reserve(&mut conn, &outgoing(&job, "a", 90)).await.unwrap(), Reserved::Sent);
    assert_eq!(spent(&month(&world, &tenant).await), [0, 0, 90, 90 * TOKEN_NANOS]);
    // an answer of the database that is not heard makes the worker say it twice
    for _ in 0..2 {
        assert!(LlmCall::close(&mut conn, &closing(&job, "a", 7)).await.unwrap());
        assert_eq!(spent(&month(&world, &tenant).await), [7, 7 * TOKEN_NANOS, 0, 0]);
    }
    assert_eq!(calls(&world, job.id).await[0].sends, 4);
    finish(&mut conn, &job).await;
    assert_eq!(spent(&month(&world, &tenant).await), [7, 7 * TOKEN_NANOS, 0, 0]);
    assert_eq!(usage(&world, job.id).await, [used("/ai/chat", "failed", 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_lost_its_job_sends_nothing_and_what_it_spent_is_charged() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let job = claimed(&world, &tenant).await;
    let mut conn = world.conn().await;
    assert_eq!(LlmCall::reserve(&mut conn, &outgoing(&job, "a", 60)).await.unwrap(), Reserved::Sent);
    finish(&mut conn, &job).await;
    let ended = calls(&world, job.id).await.remove(0);
    assert_eq!((ended.status, ended.error_code.as_deref()), (CallStatus::Failed, Some("job_ended")));

    assert_eq!(LlmCall::reserve(&mut conn, &outgoing(&job, "b", 60)).await.unwrap(), Reserved::Lost);
    assert!(!LlmCall::close(&mut conn, &closing(&job, "a", 7)).await.unwrap());
    let after = calls(&world, job.id).await;
    assert_eq!((after.len(), after[0].status), (1, CallStatus::Failed));
    assert_eq!(spent(&month(&world, &tenant).await), [7, 7 * TOKEN_NANOS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_what_was_spent_in_old_months_are_deleted_after_their_time() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let mut conn = world.conn().await;
    for (days, month) in [(500, "2001-01-01"), (399, "2999-01-01")] {
        diesel::sql_query(
            "INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, status, created_at) \
             VALUES (gen_random_uuid(), $1, $2, gen_random_uuid(), '/ai/chat', 'm', 'completed', now() - $3 * interval '1 day')",
        )
        .bind::<SqlUuid, _>(tenant.organization)
        .bind::<SqlUuid, _>(tenant.user)
        .bind::<BigInt, _>(days)
        .execute(&mut *conn)
        .await
        .unwrap();
        diesel::sql_query("INSERT INTO budgets (scope, period, organization_id) VALUES ($1, $2::date, $1)")
            .bind::<SqlUuid, _>(tenant.organization)
            .bind::<Text, _>(month)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
    let _scheduler = world.scheduler_with(&[("ATELIER_PRUNE_EVERY", "1")]).await;
    let old = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap();
    let kept = NaiveDate::from_ymd_opt(2999, 1, 1).unwrap();
    eventually("the old month to be gone", async || {
        let found = Budget::find(&mut *world.conn().await, tenant.organization, old).await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    assert!(Budget::find(&mut conn, tenant.organization, kept).await.unwrap().is_some());

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let left: Count = diesel::sql_query("SELECT count(*) FROM usage_records").get_result(&mut *conn).await.unwrap();
    assert_eq!(left.count, 1);
}
