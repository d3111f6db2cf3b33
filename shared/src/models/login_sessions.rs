//! Login sessions and their refresh tokens. Every access token names a session and is good only while that session has
//! not ended, so a logout works at once although the token itself has not expired.

use super::{Role, Tier};
use crate::schema::{login_sessions, memberships, organizations, refresh_tokens, users};
use chrono::{DateTime, Utc};
use diesel::{
    dsl::{IntervalDsl, now},
    prelude::*,
    sql_types::{Array, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// A login session as stored.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = login_sessions, check_for_backend(diesel::pg::Pg))]
pub struct LoginSession {
    /// Its id.
    pub id: Uuid,
    /// Who logged in.
    pub user_id: Uuid,
    /// From where.
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last login or refresh.
    pub last_used_at: DateTime<Utc>,
    /// When it was ended; its tokens are refused from then on.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Who is behind a session: what every request needs to know about its caller.
#[derive(Debug, Clone, Queryable)]
pub struct SessionHolder {
    /// The user.
    pub user_id: Uuid,
    /// The user's current organization.
    pub organization_id: Uuid,
    /// The user's role in it.
    pub role: Role,
    /// Its tier.
    pub tier: Tier,
    /// What the operator put in place of the tier's figures.
    pub custom_limits: Option<Value>,
    /// The last noted use was more than a minute ago.
    pub stale: bool,
}

/// What a refresh token turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It was good, and is spent now.
    Good {
        /// The session it belongs to.
        session_id: Uuid,
        /// The session's user.
        user_id: Uuid,
    },
    /// It had been spent before: somebody has a copy. The session was ended.
    Reused {
        /// The session it belonged to.
        session_id: Uuid,
    },
    /// Unknown, expired, or of a session that ended.
    Bad,
}

impl LoginSession {
    /// Opens a session.
    pub async fn insert(
        conn: &mut AsyncPgConnection,
        user_id: Uuid,
        ip: Option<&str>,
        user_agent: Option<&str>,
    ) -> QueryResult<Uuid> {
        let id = Uuid::now_v7();
        diesel::insert_into(login_sessions::table)
            .values((
                login_sessions::id.eq(id),
                login_sessions::user_id.eq(user_id),
                login_sessions::ip.eq(ip),
                login_sessions::user_agent.eq(user_agent),
            ))
            .execute(conn)
            .await?;
        Ok(id)
    }

    /// Who is behind open sessions of active users, by the session's id: one query for any number.
    pub async fn list_holders(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, SessionHolder>> {
        let found: Vec<(Uuid, SessionHolder)> =
            login_sessions::table
                .inner_join(users::table)
                .inner_join(memberships::table.on(
                    memberships::user_id.eq(users::id).and(memberships::organization_id.eq(users::organization_id)),
                ))
                .inner_join(organizations::table.on(organizations::id.eq(users::organization_id)))
                .filter(login_sessions::id.eq_any(ids))
                .filter(login_sessions::ended_at.is_null())
                .filter(users::is_active)
                .select((
                    login_sessions::id,
                    (
                        users::id,
                        users::organization_id,
                        memberships::role,
                        organizations::subscription_tier,
                        organizations::custom_limits,
                        login_sessions::last_used_at.lt(now.into_sql::<Timestamptz>() - 1.minute()),
                    ),
                ))
                .load(conn)
                .await?;
        Ok(found.into_iter().collect())
    }

    /// Notes that sessions were used, at most once a minute for each; one statement for any number.
    pub async fn touch(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<()> {
        // locked in one order: two processes that write the same sessions at once must not wait for each other
        diesel::sql_query(
            "WITH used AS ( \
                 SELECT id FROM login_sessions \
                 WHERE id = ANY($1) AND last_used_at < now() - interval '1 minute' ORDER BY id FOR NO KEY UPDATE \
             ) \
             UPDATE login_sessions s SET last_used_at = now() FROM used WHERE s.id = used.id",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Ends an open session, if it is this user's; `false` if there is none.
    pub async fn end_own(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<bool> {
        let own = login_sessions::table.find(id).filter(login_sessions::user_id.eq(user_id));
        let ended = diesel::update(own.filter(login_sessions::ended_at.is_null()))
            .set(login_sessions::ended_at.eq(now))
            .execute(conn)
            .await?;
        Ok(ended == 1)
    }

    /// Ends all sessions of a user.
    pub async fn end_all(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<usize> {
        let open = login_sessions::table
            .filter(login_sessions::user_id.eq(user_id))
            .filter(login_sessions::ended_at.is_null());
        diesel::update(open).set(login_sessions::ended_at.eq(now)).execute(conn).await
    }

    /// Ends a session; `false` if it had ended before.
    pub async fn end(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<bool> {
        let ended = diesel::update(login_sessions::table.find(id).filter(login_sessions::ended_at.is_null()))
            .set(login_sessions::ended_at.eq(now))
            .execute(conn)
            .await?;
        Ok(ended == 1)
    }

    /// Ends all sessions of a user but one.
    pub async fn end_others(conn: &mut AsyncPgConnection, user_id: Uuid, kept: Uuid) -> QueryResult<usize> {
        diesel::update(
            login_sessions::table
                .filter(login_sessions::user_id.eq(user_id))
                .filter(login_sessions::id.ne(kept))
                .filter(login_sessions::ended_at.is_null()),
        )
        .set(login_sessions::ended_at.eq(now))
        .execute(conn)
        .await
    }

    /// Stores a refresh token of a session by its SHA-256.
    pub async fn insert_refresh_token(
        conn: &mut AsyncPgConnection,
        session_id: Uuid,
        hash: &[u8],
        expires_at: DateTime<Utc>,
    ) -> QueryResult<()> {
        diesel::insert_into(refresh_tokens::table)
            .values((
                refresh_tokens::hash.eq(hash),
                refresh_tokens::session_id.eq(session_id),
                refresh_tokens::expires_at.eq(expires_at),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Spends a refresh token. Call it in a transaction, and commit that transaction whatever the answer is.
    pub async fn redeem(conn: &mut AsyncPgConnection, hash: &[u8]) -> QueryResult<Redeemed> {
        // locked: of two requests with one token, the second sees it spent
        type Row = (Uuid, Uuid, DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>, bool);
        let row: Option<Row> = refresh_tokens::table
            .inner_join(login_sessions::table.inner_join(users::table))
            .filter(refresh_tokens::hash.eq(hash))
            .select((
                login_sessions::id,
                users::id,
                refresh_tokens::expires_at,
                refresh_tokens::spent_at,
                login_sessions::ended_at,
                users::is_active,
            ))
            .for_no_key_update()
            .first(conn)
            .await
            .optional()?;
        let Some((session_id, user_id, expires_at, spent_at, ended_at, is_active)) = row else {
            return Ok(Redeemed::Bad);
        };
        if ended_at.is_some() || !is_active || expires_at <= Utc::now() {
            return Ok(Redeemed::Bad);
        }
        if spent_at.is_some() {
            Self::end(conn, session_id).await?;
            return Ok(Redeemed::Reused { session_id });
        }
        diesel::update(refresh_tokens::table.find(hash)).set(refresh_tokens::spent_at.eq(now)).execute(conn).await?;
        diesel::update(login_sessions::table.find(session_id))
            .set(login_sessions::last_used_at.eq(now))
            .execute(conn)
            .await?;
        Ok(Redeemed::Good { session_id, user_id })
    }
}
