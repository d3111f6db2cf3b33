//! What a user has done: the figures of the own account.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// What a user has done, in all and since the month (UTC) began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, QueryableByName)]
pub struct Activity {
    /// Pipelines that the user made and that still exist.
    #[diesel(sql_type = BigInt)]
    pub pipelines_created: i64,
    /// Executions that the user started this month.
    #[diesel(sql_type = BigInt)]
    pub executions_this_month: i64,
    /// Tokens that models counted for the user this month.
    #[diesel(sql_type = BigInt)]
    pub tokens_used_this_month: i64,
}

impl Activity {
    /// The figures of a user.
    pub async fn of_user(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<Self> {
        diesel::sql_query(
            "WITH month AS (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS start) \
             SELECT (SELECT count(*) FROM pipelines WHERE created_by = $1) AS pipelines_created, \
                    (SELECT count(*) FROM executions, month WHERE user_id = $1 AND created_at >= month.start) \
                        AS executions_this_month, \
                    (SELECT COALESCE(sum(total_tokens), 0)::bigint FROM usage_records, month \
                     WHERE user_id = $1 AND created_at >= month.start) AS tokens_used_this_month",
        )
        .bind::<SqlUuid, _>(user_id)
        .get_result(conn)
        .await
    }
}
