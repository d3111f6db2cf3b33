//! Counting requests against the quotas of their users and organizations.

use crate::{auth::Caller, error::ApiError, state::State};
use diesel_async::AsyncPgConnection;
use shared::{
    models::{Quota, QuotaExceeded},
    queue::Hint,
};
use uuid::Uuid;

/// Counts a request in the transaction that accepts its job; see [`Quota::reserve`]. What it returns is pushed after the
/// commit.
///
/// # Errors
/// 429 if a quota is used up.
pub(crate) async fn reserve(
    state: &State,
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    job_id: Uuid,
) -> Result<Vec<Hint>, ApiError> {
    let reserved = Quota::reserve(conn, &state.config.limits, caller.user_id, caller.organization_id, job_id).await?;
    reserved.map_err(|exceeded| used_up(&exceeded))
}

/// Refuses a request that [`reserve`] would refuse, before anything is done for it.
///
/// # Errors
/// 429 if a quota is used up.
pub(crate) async fn check(state: &State, conn: &mut AsyncPgConnection, caller: &Caller) -> Result<(), ApiError> {
    let checked = Quota::check(conn, &state.config.limits, caller.user_id, caller.organization_id).await?;
    checked.map_err(|exceeded| used_up(&exceeded))
}

fn used_up(exceeded: &QuotaExceeded) -> ApiError {
    ApiError::quota_exceeded(exceeded.to_string(), exceeded.retry_after())
}
