//! Quotas: how many metered requests a user, and an organization, may send in a day, a week, a month.

use super::Finish;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;

/// What the ends of jobs mean for the windows that hold them: one that failed through our fault is taken back.
pub(super) async fn settle(_conn: &mut AsyncPgConnection, _ended: &[&Finish]) -> QueryResult<()> {
    Ok(())
}
