//! Recovery codes: each stands in once for a code of the second factor.

use crate::schema::recovery_codes;
use diesel::{dsl::now, prelude::*};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// The recovery codes of users, by hash.
#[derive(Debug)]
pub struct RecoveryCode;

impl RecoveryCode {
    /// Replaces the codes of a user; none: the user has no more.
    pub async fn replace(conn: &mut AsyncPgConnection, user_id: Uuid, hashes: &[Vec<u8>]) -> QueryResult<()> {
        diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user_id))).execute(conn).await?;
        let rows: Vec<_> = hashes
            .iter()
            .map(|hash| (recovery_codes::user_id.eq(user_id), recovery_codes::hash.eq(hash.as_slice())))
            .collect();
        if !rows.is_empty() {
            diesel::insert_into(recovery_codes::table).values(rows).execute(conn).await?;
        }
        Ok(())
    }

    /// Spends a code; `false`: there is none, or it was spent before.
    pub async fn spend(conn: &mut AsyncPgConnection, user_id: Uuid, hash: &[u8]) -> QueryResult<bool> {
        let unspent = recovery_codes::table.find((user_id, hash)).filter(recovery_codes::used_at.is_null());
        let spent = diesel::update(unspent).set(recovery_codes::used_at.eq(now)).execute(conn).await?;
        Ok(spent == 1)
    }
}
