//! How replicas of the API answered organizations, minute by minute. A replica writes the whole of its minute again and again;
//! what has come to it since the last time is added to the hour, so that nothing counts twice however often it is written.

use crate::schema::request_minutes;
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Double, Int4, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Seconds of a minute.
pub const SECONDS: usize = 60;

/// Organizations come before their hours, each in one order, as with everybody who adds to hours. Those that are gone in
/// between are passed over.
const WRITE: &str = "WITH held AS ( \
    SELECT id FROM organizations WHERE id = ANY($2) ORDER BY id FOR KEY SHARE \
), now_known AS ( \
    SELECT counted.*, ($9::integer[])[(n::integer - 1) * 60 + 1 : n::integer * 60] AS seconds \
    FROM UNNEST($2, $3, $4, $5, $6, $7, $8) WITH ORDINALITY \
            AS counted (organization_id, minute, requests, response_ms, errors_4xx, errors_5xx, histogram, n) \
        JOIN held ON held.id = counted.organization_id \
), added AS ( \
    SELECT now_known.organization_id, date_trunc('hour', now_known.minute, 'UTC') AS hour, \
        sum(now_known.requests - COALESCE(known.requests, 0))::bigint AS requests, \
        sum(now_known.response_ms - COALESCE(known.response_ms, 0)) AS response_ms \
    FROM now_known LEFT JOIN request_minutes known ON known.organization_id = now_known.organization_id \
        AND known.minute = now_known.minute AND known.replica = $1 \
    GROUP BY 1, 2 \
), written AS ( \
    INSERT INTO request_minutes (organization_id, minute, replica, requests, response_ms, errors_4xx, errors_5xx, \
        seconds, histogram) \
    SELECT organization_id, minute, $1, requests, response_ms, errors_4xx, errors_5xx, seconds, histogram FROM now_known \
    ON CONFLICT (organization_id, minute, replica) DO UPDATE SET requests = excluded.requests, \
        response_ms = excluded.response_ms, errors_4xx = excluded.errors_4xx, errors_5xx = excluded.errors_5xx, \
        seconds = excluded.seconds, histogram = excluded.histogram \
) \
INSERT INTO usage_hours AS sums (organization_id, hour, requests, response_ms) \
SELECT organization_id, hour, requests, response_ms FROM added WHERE requests > 0 ORDER BY organization_id, hour \
ON CONFLICT (organization_id, hour) DO UPDATE SET requests = sums.requests + excluded.requests, \
    response_ms = sums.response_ms + excluded.response_ms";

/// One minute of an organization, as one replica has seen it.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = request_minutes, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct RequestMinute {
    pub organization_id: Uuid,
    pub minute: DateTime<Utc>,
    pub requests: i64,
    pub response_ms: f64,
    pub errors_4xx: i64,
    pub errors_5xx: i64,
    pub seconds: Vec<i32>,
    pub histogram: Vec<u8>,
}

impl RequestMinute {
    /// Writes minutes of a replica, each as it is by now. One statement; to be repeated if it fails, also if nobody knows
    /// whether it did.
    pub async fn write(conn: &mut AsyncPgConnection, replica: Uuid, minutes: &[Self]) -> QueryResult<()> {
        let seconds: Vec<i32> = minutes.iter().flat_map(|minute| minute.seconds.iter().copied()).collect();
        debug_assert_eq!(seconds.len(), minutes.len() * SECONDS, "every minute has all of its seconds");
        fn column<T>(minutes: &[RequestMinute], of: impl Fn(&RequestMinute) -> T) -> Vec<T> {
            minutes.iter().map(of).collect()
        }
        diesel::sql_query(WRITE)
            .bind::<SqlUuid, _>(replica)
            .bind::<Array<SqlUuid>, _>(column(minutes, |minute| minute.organization_id))
            .bind::<Array<Timestamptz>, _>(column(minutes, |minute| minute.minute))
            .bind::<Array<BigInt>, _>(column(minutes, |minute| minute.requests))
            .bind::<Array<Double>, _>(column(minutes, |minute| minute.response_ms))
            .bind::<Array<BigInt>, _>(column(minutes, |minute| minute.errors_4xx))
            .bind::<Array<BigInt>, _>(column(minutes, |minute| minute.errors_5xx))
            .bind::<Array<Binary>, _>(column(minutes, |minute| minute.histogram.clone()))
            .bind::<Array<Int4>, _>(seconds)
            .execute(conn)
            .await?;
        Ok(())
    }

    /// The minutes of an organization that began after this moment, of all replicas.
    pub async fn list_since(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        moment: DateTime<Utc>,
    ) -> QueryResult<Vec<Self>> {
        request_minutes::table
            .filter(request_minutes::organization_id.eq(organization_id).and(request_minutes::minute.gt(moment)))
            .select(Self::as_select())
            .load(conn)
            .await
    }
}
