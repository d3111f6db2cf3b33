//! Calls of language models as jobs make them: recorded, paid for out of budgets, never repeated once they are answered.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{Datelike, NaiveDate, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::{StreamExt, future::join_all};
use harness::{Fault, LlmPeer, Running, Tenant, World, assert_whole, eventually};
use serde_json::{Value, json};
use shared::{
    events::{self, Tokens},
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker, TextGeneration},
    models::{
        Budget, CallStatus, Cancelled, Closing, Ending, Finish, Job, JobStatus, LlmCall, NewJob, Outgoing, Reserved,
    },
};
use std::time::Duration;
use uuid::Uuid;

/// 10^-9 US dollars for one token of `peer-model`.
const TOKEN_NANOS: i64 = 1_000_000;

const DOLLAR: i64 = 1_000_000_000;

#[derive(QueryableByName, Debug, PartialEq, Eq)]
struct Usage {
    #[diesel(sql_type = Text)]
    endpoint: String,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost_nanos: i64,
}

fn chat(message: &str) -> ChatCompletion {
    ChatCompletion {
        endpoint: Endpoint::AiChat,
        model: "peer-model".to_owned(),
        messages: vec![ChatMessage { role: Speaker::User, content: message.to_owned() }],
        max_tokens: 50,
        temperature: 0.7,
        top_p: 1.0,
        stream: false,
    }
}

fn generation(prompt: &str, n: u8) -> TextGeneration {
    TextGeneration {
        model: "peer-model".to_owned(),
        prompt: prompt.to_owned(),
        max_tokens: 50,
        temperature: 0.7,
        top_p: 1.0,
        n,
        stop: Vec::new(),
    }
}

fn new_job(tenant: &Tenant, payload: Payload) -> NewJob {
    NewJob::new(tenant.user, tenant.organization, tenant.weight, payload)
}

/// Accepts a job as the API does.
async fn submit(world: &World, tenant: &Tenant, payload: Payload) -> Uuid {
    let job = new_job(tenant, payload);
    world.insert(&job).await;
    world.queue("ai").push(&[job.ticket()]).await.unwrap();
    job.id
}

async fn submit_chat(world: &World, tenant: &Tenant, chat: ChatCompletion) -> Uuid {
    submit(world, tenant, Payload::ChatCompletion(chat)).await
}

/// A worker that asks the peer.
async fn worker(world: &World, peer: &LlmPeer) -> Running {
    world.worker_with(&["interactive"], &[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await
}

async fn calls(world: &World, job_id: Uuid) -> Vec<LlmCall> {
    LlmCall::list(&mut *world.conn().await, job_id).await.unwrap()
}

async fn usage(world: &World, job_id: Uuid) -> Vec<Usage> {
    diesel::sql_query(
        "SELECT endpoint, model, status, total_tokens::bigint AS tokens, cost_nanos FROM usage_records WHERE job_id = $1",
    )
    .bind::<SqlUuid, _>(job_id)
    .load(&mut *world.conn().await)
    .await
    .unwrap()
}

fn used(endpoint: &str, status: &str, tokens: i64) -> Usage {
    let (endpoint, status) = (endpoint.to_owned(), status.to_owned());
    Usage { endpoint, model: "peer-model".to_owned(), status, tokens, cost_nanos: tokens * TOKEN_NANOS }
}

/// What the organization spent this month.
async fn month(world: &World, tenant: &Tenant) -> Budget {
    let first = Utc::now().date_naive().with_day(1).unwrap();
    Budget::find(&mut *world.conn().await, tenant.organization, first).await.unwrap().unwrap()
}

/// Tokens and cost: used, and held.
fn spent(budget: &Budget) -> [i64; 4] {
    [budget.tokens_used, budget.cost_used_nanos, budget.tokens_reserved, budget.cost_reserved_nanos]
}

async fn set_budget(world: &World, tenant: &Tenant, column: &str, limit: i64) {
    diesel::sql_query(format!("UPDATE organizations SET {column} = $1 WHERE id = $2"))
        .bind::<BigInt, _>(limit)
        .bind::<SqlUuid, _>(tenant.organization)
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
}

fn answer_text(job: &Job) -> &str {
    job.result.as_ref().unwrap()["choices"][0]["message"]["content"].as_str().unwrap()
}

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

// what follows needs no worker: the statements themselves

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
    assert_eq!(Job::finish(conn, &[finish]).await.unwrap().len(), 1);
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
