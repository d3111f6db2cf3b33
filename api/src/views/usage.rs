//! Use of models, as clients see it.

use super::{Time, words};
use chrono::NaiveDate;
use serde::Serialize;
use shared::models::{UsageGroup, UsageRow};
use utoipa::{ToSchema, openapi::schema::Object};
use uuid::Uuid;

fn status() -> Object {
    words(&["completed", "failed"])
}

/// One request, or one call of a model by a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageRecord {
    id: Uuid,
    created_at: Time,
    /// The day of `created_at`, in UTC.
    date: NaiveDate,
    /// Where it came in.
    endpoint: String,
    /// As it was asked for.
    model: String,
    prompt_tokens: i32,
    completion_tokens: i32,
    total_tokens: i32,
    /// US dollars.
    cost: f64,
    #[schema(schema_with = status)]
    status: String,
    /// From the request to its end.
    response_time_ms: i64,
}

impl UsageRecord {
    pub(crate) fn new(row: UsageRow) -> Self {
        Self {
            id: row.id,
            created_at: row.created_at.into(),
            date: row.created_at.date_naive(),
            endpoint: row.endpoint,
            model: row.model,
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            total_tokens: row.total_tokens,
            cost: dollars(row.cost_nanos),
            status: row.status,
            response_time_ms: row.response_time_ms,
        }
    }
}

/// A sum of usage records.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct UsageSum {
    pub(crate) requests: i64,
    pub(crate) tokens: i64,
    /// US dollars.
    pub(crate) cost: f64,
}

impl UsageSum {
    pub(crate) fn new(group: &UsageGroup) -> Self {
        Self { requests: group.requests, tokens: group.tokens, cost: dollars(group.cost_nanos) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of money have fewer digits than a float holds")]
fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
