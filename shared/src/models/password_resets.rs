//! Links for people who forgot their password: each works once, for a while, and only until there is a newer one.

use crate::schema::{password_resets, users};
use chrono::{DateTime, Utc};
use diesel::{
    dsl::{IntervalDsl, now},
    prelude::*,
    sql_types::Timestamptz,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// The links that were sent, by SHA-256 of their token.
#[derive(Debug)]
pub struct PasswordReset;

impl PasswordReset {
    /// Makes a link, and ends those before. `false`: this user got `most` of them within the hour, and gets no further one.
    pub async fn insert(
        conn: &mut AsyncPgConnection,
        user_id: Uuid,
        hash: &[u8],
        expires_at: DateTime<Utc>,
        most: i64,
    ) -> QueryResult<bool> {
        let of_user = password_resets::table.filter(password_resets::user_id.eq(user_id));
        let lately = of_user.filter(password_resets::created_at.gt(now.into_sql::<Timestamptz>() - 1.hour()));
        let lately: i64 = lately.count().get_result(conn).await?;
        if lately >= most {
            return Ok(false);
        }
        Self::end_all(conn, user_id).await?;
        diesel::insert_into(password_resets::table)
            .values((
                password_resets::hash.eq(hash),
                password_resets::user_id.eq(user_id),
                password_resets::expires_at.eq(expires_at),
            ))
            .execute(conn)
            .await?;
        Ok(true)
    }

    /// Whose link this is, if it still works.
    pub async fn find_user(conn: &mut AsyncPgConnection, hash: &[u8]) -> QueryResult<Option<Uuid>> {
        password_resets::table
            .inner_join(users::table.on(users::id.eq(password_resets::user_id)))
            .filter(password_resets::hash.eq(hash))
            .filter(password_resets::used_at.is_null())
            .filter(password_resets::expires_at.gt(now))
            .filter(users::is_active)
            .select(users::id)
            .first(conn)
            .await
            .optional()
    }

    /// Spends a link; `false`: it does not work any more.
    pub async fn spend(conn: &mut AsyncPgConnection, hash: &[u8]) -> QueryResult<bool> {
        let good = password_resets::table
            .find(hash)
            .filter(password_resets::used_at.is_null())
            .filter(password_resets::expires_at.gt(now));
        Ok(diesel::update(good).set(password_resets::used_at.eq(now)).execute(conn).await? == 1)
    }

    /// Ends all links of a user.
    pub async fn end_all(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<usize> {
        let open = password_resets::table
            .filter(password_resets::user_id.eq(user_id))
            .filter(password_resets::used_at.is_null());
        diesel::update(open).set(password_resets::used_at.eq(now)).execute(conn).await
    }
}
