//! What was asked of models, what it took and what it cost: the caller's own records, one by one and summed up.

use crate::{
    auth::Caller,
    error::{ApiError, Detail},
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{Quota, UsageRecord, UsageSum},
};
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::Serialize;
use shared::models::{UsageGroup, UsageRange, UsageRow};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// How far sums look back where nothing is said.
const LOOK_BACK: Days = Days::new(30);

/// The records of one user.
static USAGE: ListSpec = ListSpec {
    from: "usage_records u",
    columns: "u.*",
    condition: None,
    id: "u.id",
    default_limit: 20,
    filters: &[
        Filter { name: "model", sql: "u.model", values: Values::Text },
        Filter { name: "start_date", sql: "u.created_at", values: Values::Since },
        Filter { name: "end_date", sql: "u.created_at", values: Values::Until },
    ],
    searched: &[],
    sortable: &[Sortable::new("created_at", "u.created_at", SortKind::Time)],
};

/// Use of models in a span of time, and what is left of the quota.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageSummary {
    usage: UsageTotals,
    quota: Quota,
}

/// Use of models in a span of time.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct UsageTotals {
    total_requests: i64,
    total_tokens: i64,
    /// US dollars.
    total_cost: f64,
    by_model: BTreeMap<String, UsageSum>,
    /// Days on which something was asked, oldest first.
    by_date: Vec<UsageOfDay>,
}

/// Use of models on one day, in UTC.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageOfDay {
    date: NaiveDate,
    #[serde(flatten)]
    sum: UsageSum,
}

impl UsageTotals {
    fn new(groups: Vec<UsageGroup>) -> Self {
        let mut totals = Self::default();
        for group in groups {
            let sum = UsageSum::new(&group);
            match (group.model, group.day) {
                (Some(model), _) => {
                    totals.by_model.insert(model, sum);
                }
                (None, Some(date)) => totals.by_date.push(UsageOfDay { date, sum }),
                (None, None) => {
                    totals.total_requests = sum.requests;
                    totals.total_tokens = sum.tokens;
                    totals.total_cost = sum.cost;
                }
            }
        }
        totals
    }
}

/// Sum up the use of models
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    params(
        ("start_date" = Option<String>, Query, description = "Date or time, inclusive; 30 days before the end without it"),
        ("end_date" = Option<String>, Query, description = "Date or time, inclusive; now without it"),
        ("model" = Option<String>, Query, description = "One or several, separated by commas"),
    ),
    responses((status = 200, description = "The sums and the quota", body = UsageSummary)),
)]
#[get("/ai/usage")]
pub(crate) async fn sum_up_usage(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let range = read_range(&params, caller.user_id, Utc::now())?;
    let mut conn = state.conn().await?;
    let usage = UsageTotals::new(UsageGroup::list(&mut conn, &range).await?);
    let quota =
        shared::models::Quota::get(&mut conn, &state.config.limits, caller.user_id, caller.organization_id).await?;
    Ok(HttpResponse::Ok().json(UsageSummary { usage, quota: quota.into() }))
}

fn read_range(params: &ListParams, user_id: Uuid, now: DateTime<Utc>) -> Result<UsageRange, ApiError> {
    let mut problems: Vec<_> =
        params.unstorable().map(|name| Detail::new(name, "must not contain the character U+0000")).collect();
    let since = list::time(params, "start_date", false, &mut problems);
    let before = list::time(params, "end_date", true, &mut problems).unwrap_or(now);
    let since = since.or_else(|| before.checked_sub_days(LOOK_BACK)).unwrap_or(before);
    // the end is exclusive by now
    if since >= before && problems.is_empty() {
        problems.push(Detail::new("start_date", "must not be after end_date"));
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    let models = params.all("model").flat_map(|list| list.split(',')).map(str::trim).filter(|model| !model.is_empty());
    Ok(UsageRange { user_id, since, before, models: models.map(ToOwned::to_owned).collect() })
}

/// List the use of models
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    params(
        ("model" = Option<String>, Query, description = "One or several, separated by commas"),
        ("start_date" = Option<String>, Query, description = "Date or time, inclusive"),
        ("end_date" = Option<String>, Query, description = "Date or time, inclusive; a date includes that whole day"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of records", body = Page<UsageRecord>)),
)]
#[get("/usage")]
pub(crate) async fn list_usage(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<UsageRow> = list::fetch(&mut conn, &USAGE, &params, &[("u.user_id", caller.user_id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(UsageRecord::new).collect::<Vec<_>>())))
}
