//! Jobs that repeat others: what was finished is taken over.

use super::StepStatus;
use diesel::{
    QueryResult,
    sql_types::{Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Copies the steps that an earlier job of the same organization finished, and the calls that it has answers to, so that
/// nothing is run or paid for again.
pub(super) async fn take_over(conn: &mut AsyncPgConnection, job_id: Uuid, retried: Uuid) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO job_steps (job_id, item, name, position, status, attempt, started_at, completed_at, duration_ms, \
                                error_message, result) \
         SELECT $1, item, name, position, status, 0, started_at, completed_at, duration_ms, error_message, result \
         FROM job_steps WHERE job_id = $2 AND status = $3",
    )
    .bind::<SqlUuid, _>(job_id)
    .bind::<SqlUuid, _>(retried)
    .bind::<Text, _>(StepStatus::Completed)
    .execute(conn)
    .await?;
    // a call that was answered before its step was recorded is paid for, too
    diesel::sql_query(
        "INSERT INTO llm_calls (id, job_id, organization_id, user_id, call, request_hash, attempt, sends, status, \
                                endpoint, model, provider, answered_by, answer, created_at, finished_at, latency_ms) \
         SELECT gen_random_uuid(), $1, organization_id, user_id, call, request_hash, 0, 0, status, endpoint, model, \
                provider, answered_by, answer, created_at, finished_at, latency_ms \
         FROM llm_calls WHERE job_id = $2 AND status = 'completed'",
    )
    .bind::<SqlUuid, _>(job_id)
    .bind::<SqlUuid, _>(retried)
    .execute(conn)
    .await?;
    Ok(())
}
