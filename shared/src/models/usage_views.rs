//! What the views of usage read out of `usage_records`.

use crate::schema::usage_records;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A usage record as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = usage_records, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct UsageRow {
    pub id: Uuid,
    pub endpoint: String,
    pub model: String,
    pub prompt_tokens: i32,
    pub completion_tokens: i32,
    pub total_tokens: i32,
    pub cost_nanos: i64,
    pub status: String,
    pub response_time_ms: i64,
    pub created_at: DateTime<Utc>,
}

/// Which records are summed up.
#[derive(Debug, Clone)]
pub struct UsageRange {
    /// Whose.
    pub user_id: Uuid,
    /// From this moment on.
    pub since: DateTime<Utc>,
    /// Before this moment.
    pub before: DateTime<Utc>,
    /// Of these models; all if there are none.
    pub models: Vec<String>,
}

/// A sum of records: of one model, of one day, or, with neither, of all.
#[derive(Debug, Clone, QueryableByName)]
pub struct UsageGroup {
    /// The model.
    #[diesel(sql_type = Nullable<Text>)]
    pub model: Option<String>,
    /// The day, in UTC.
    #[diesel(sql_type = Nullable<Date>)]
    pub day: Option<NaiveDate>,
    /// How many records.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Tokens read and written.
    #[diesel(sql_type = BigInt)]
    pub tokens: i64,
    /// 10^-9 US dollars.
    #[diesel(sql_type = BigInt)]
    pub cost_nanos: i64,
}

impl UsageGroup {
    /// The sums of a range: one of all, even if there is nothing, one for each model and one for each day, by name and by
    /// day. One query.
    pub async fn list(conn: &mut AsyncPgConnection, range: &UsageRange) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "SELECT model, day, count(*) AS requests, COALESCE(sum(total_tokens), 0)::bigint AS tokens, \
                 COALESCE(sum(cost_nanos), 0)::bigint AS cost_nanos \
             FROM (SELECT model, (created_at AT TIME ZONE 'UTC')::date AS day, total_tokens, cost_nanos \
                   FROM usage_records \
                   WHERE user_id = $1 AND created_at >= $2 AND created_at < $3 \
                       AND (cardinality($4::text[]) = 0 OR model = ANY($4))) AS used \
             GROUP BY GROUPING SETS ((), (model), (day)) ORDER BY model, day",
        )
        .bind::<SqlUuid, _>(range.user_id)
        .bind::<Timestamptz, _>(range.since)
        .bind::<Timestamptz, _>(range.before)
        .bind::<Array<Text>, _>(&range.models)
        .load(conn)
        .await
    }
}
