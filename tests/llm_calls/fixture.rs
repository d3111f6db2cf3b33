//! What the tests of calls have in common.

use chrono::{Datelike, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use harness::{LlmPeer, Running, Tenant, World};
use shared::{
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker, TextGeneration},
    models::{Budget, Job, LlmCall, NewJob},
};
use uuid::Uuid;

/// 10^-9 US dollars for one token of `peer-model`.
pub(super) const TOKEN_NANOS: i64 = 1_000_000;

pub(super) const DOLLAR: i64 = 1_000_000_000;

#[derive(QueryableByName, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    #[diesel(sql_type = Text)]
    pub(super) endpoint: String,
    #[diesel(sql_type = Text)]
    pub(super) model: String,
    #[diesel(sql_type = Text)]
    pub(super) status: String,
    #[diesel(sql_type = BigInt)]
    pub(super) tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) cost_nanos: i64,
}

pub(super) fn chat(message: &str) -> ChatCompletion {
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

pub(super) fn generation(prompt: &str, n: u8) -> TextGeneration {
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

pub(super) fn new_job(tenant: &Tenant, payload: Payload) -> NewJob {
    NewJob::new(tenant.user, tenant.organization, tenant.weight, payload)
}

/// Accepts a job as the API does.
pub(super) async fn submit(world: &World, tenant: &Tenant, payload: Payload) -> Uuid {
    let job = new_job(tenant, payload);
    world.insert(&job).await;
    world.queue("ai").push(&[job.ticket()]).await.unwrap();
    job.id
}

pub(super) async fn submit_chat(world: &World, tenant: &Tenant, chat: ChatCompletion) -> Uuid {
    submit(world, tenant, Payload::ChatCompletion(chat)).await
}

/// A worker that asks the peer.
pub(super) async fn worker(world: &World, peer: &LlmPeer) -> Running {
    world.worker_with(&["interactive"], &[("ATELIER_LLM_FILE", &world.llm_file(peer))]).await
}

pub(super) async fn calls(world: &World, job_id: Uuid) -> Vec<LlmCall> {
    LlmCall::list(&mut *world.conn().await, job_id).await.unwrap()
}

pub(super) async fn usage(world: &World, job_id: Uuid) -> Vec<Usage> {
    diesel::sql_query(
        "SELECT endpoint, model, status, total_tokens::bigint AS tokens, cost_nanos FROM usage_records WHERE job_id = $1",
    )
    .bind::<SqlUuid, _>(job_id)
    .load(&mut *world.conn().await)
    .await
    .unwrap()
}

pub(super) fn used(endpoint: &str, status: &str, tokens: i64) -> Usage {
    let (endpoint, status) = (endpoint.to_owned(), status.to_owned());
    Usage { endpoint, model: "peer-model".to_owned(), status, tokens, cost_nanos: tokens * TOKEN_NANOS }
}

/// What the organization spent this month.
pub(super) async fn month(world: &World, tenant: &Tenant) -> Budget {
    let first = Utc::now().date_naive().with_day(1).unwrap();
    Budget::find(&mut *world.conn().await, tenant.organization, first).await.unwrap().unwrap()
}

/// Tokens and cost: used, and held.
pub(super) fn spent(budget: &Budget) -> [i64; 4] {
    [budget.tokens_used, budget.cost_used_nanos, budget.tokens_reserved, budget.cost_reserved_nanos]
}

pub(super) async fn set_budget(world: &World, tenant: &Tenant, column: &str, limit: i64) {
    diesel::sql_query(format!("UPDATE organizations SET {column} = $1 WHERE id = $2"))
        .bind::<BigInt, _>(limit)
        .bind::<SqlUuid, _>(tenant.organization)
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
}

pub(super) fn answer_text(job: &Job) -> &str {
    job.result.as_ref().unwrap()["choices"][0]["message"]["content"].as_str().unwrap()
}
