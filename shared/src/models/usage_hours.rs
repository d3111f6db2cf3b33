//! Requests and tokens of organizations, hour by hour, and their sums over longer spans.

use crate::text_enum::text_enum;
use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Double, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

text_enum! {
    /// How long the spans are that sums are made of; as PostgreSQL calls them.
    Granularity {
        /// Sixty minutes.
        Hour = "hour",
        /// From midnight to midnight, in UTC as all of these.
        Day = "day",
        /// From Monday on.
        Week = "week",
        /// From the first on.
        Month = "month",
    }
}

/// The sum of a span.
#[derive(Debug, Clone, QueryableByName)]
pub struct UsageSpan {
    /// Its beginning.
    #[diesel(sql_type = Timestamptz)]
    pub starts: DateTime<Utc>,
    /// Requests answered.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Tokens read and written by models.
    #[diesel(sql_type = BigInt)]
    pub tokens: i64,
    /// How long the requests took together, in milliseconds.
    #[diesel(sql_type = Double)]
    pub response_ms: f64,
}

impl UsageSpan {
    /// The sums of an organization since this moment, oldest first; spans without anything are left out.
    pub async fn list(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        granularity: Granularity,
        since: DateTime<Utc>,
    ) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "SELECT date_trunc($1, hour, 'UTC') AS starts, sum(requests)::bigint AS requests, \
                 sum(tokens)::bigint AS tokens, sum(response_ms) AS response_ms \
             FROM usage_hours WHERE organization_id = $2 AND hour >= $3 GROUP BY 1 ORDER BY 1",
        )
        .bind::<Text, _>(granularity)
        .bind::<SqlUuid, _>(organization_id)
        .bind::<Timestamptz, _>(since)
        .load(conn)
        .await
    }
}
