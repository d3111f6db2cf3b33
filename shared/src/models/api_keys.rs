//! Keys for scripts. A key acts in the organization it was made in, with the role that its owner has there now; the key
//! itself is nowhere, it is found by its SHA-256.

use super::{Role, Tier};
use crate::schema::{api_keys, memberships, organizations, users};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// A key as stored, without its hash.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = api_keys, check_for_backend(diesel::pg::Pg))]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Where it acts.
    pub organization_id: Uuid,
    /// For people.
    pub name: String,
    /// The beginning of the key, to recognise it by.
    pub prefix: String,
    /// What it may.
    pub permissions: Vec<String>,
    /// It stops then.
    pub expires_at: DateTime<Utc>,
    /// The last accepted use, to a second or so.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Accepted uses.
    pub usage_count: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A key to be made.
#[derive(Clone, Insertable)]
#[diesel(table_name = api_keys)]
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Where it acts.
    pub organization_id: Uuid,
    /// For people.
    pub name: &'a str,
    /// The beginning of the key.
    pub prefix: &'a str,
    /// SHA-256 of the key.
    pub hash: &'a [u8],
    /// What it may.
    pub permissions: &'a [String],
    /// It stops then.
    pub expires_at: DateTime<Utc>,
}

/// What changes in a key; `None` stays as it is.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = api_keys)]
pub struct ApiKeyChange<'a> {
    /// For people.
    pub name: Option<&'a str>,
    /// What it may.
    pub permissions: Option<&'a [String]>,
}

/// Who is behind a key.
#[derive(Debug, Clone, Queryable)]
pub struct KeyHolder {
    /// The key.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// Where it acts.
    pub organization_id: Uuid,
    /// What it may.
    pub permissions: Vec<String>,
    /// The owner's role in the organization.
    pub role: Role,
    /// The organization's tier.
    pub tier: Tier,
    /// What the operator put in place of the tier's figures.
    pub custom_limits: Option<Value>,
}

impl ApiKey {
    /// Makes a key. `None`: the user has `most` of them already.
    pub async fn insert(conn: &mut AsyncPgConnection, new: &NewApiKey<'_>, most: i64) -> QueryResult<Option<Self>> {
        // one at a time for each user, so that two requests do not both find room for the last one
        users::table.find(new.user_id).select(users::id).for_no_key_update().first::<Uuid>(conn).await?;
        let there: i64 = api_keys::table.filter(api_keys::user_id.eq(new.user_id)).count().get_result(conn).await?;
        if there >= most {
            return Ok(None);
        }
        let made = diesel::insert_into(api_keys::table).values(new).returning(Self::as_returning());
        made.get_result(conn).await.map(Some)
    }

    /// The key, if it is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        let key = api_keys::table.find(id).filter(api_keys::user_id.eq(user_id));
        key.select(Self::as_select()).first(conn).await.optional()
    }

    /// All keys of a user, newest first.
    pub async fn list(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<Vec<Self>> {
        api_keys::table
            .filter(api_keys::user_id.eq(user_id))
            .order((api_keys::created_at.desc(), api_keys::id.desc()))
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// Changes what is given. `None`: this user has no such key.
    pub async fn update(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        user_id: Uuid,
        change: &ApiKeyChange<'_>,
    ) -> QueryResult<Option<Self>> {
        diesel::update(api_keys::table.find(id).filter(api_keys::user_id.eq(user_id)))
            .set((change, api_keys::updated_at.eq(diesel::dsl::now)))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
            .optional()
    }

    /// Deletes a key; it stops at once. `None`: this user has no such key.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        diesel::delete(api_keys::table.find(id).filter(api_keys::user_id.eq(user_id)))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
            .optional()
    }

    /// Who is behind keys that are good: unexpired, of an active user who is a member of the key's organization. By the
    /// SHA-256 of the key, one query for any number.
    pub async fn list_holders(
        conn: &mut AsyncPgConnection,
        hashes: &[Vec<u8>],
    ) -> QueryResult<HashMap<Vec<u8>, KeyHolder>> {
        let found: Vec<(Vec<u8>, KeyHolder)> = api_keys::table
            .inner_join(users::table)
            .inner_join(
                memberships::table.on(memberships::user_id
                    .eq(api_keys::user_id)
                    .and(memberships::organization_id.eq(api_keys::organization_id))),
            )
            .inner_join(organizations::table.on(organizations::id.eq(api_keys::organization_id)))
            .filter(api_keys::hash.eq_any(hashes))
            .filter(api_keys::expires_at.gt(diesel::dsl::now))
            .filter(users::is_active)
            .select((
                api_keys::hash,
                (
                    api_keys::id,
                    api_keys::user_id,
                    api_keys::organization_id,
                    api_keys::permissions,
                    memberships::role,
                    organizations::subscription_tier,
                    organizations::custom_limits,
                ),
            ))
            .load(conn)
            .await?;
        Ok(found.into_iter().collect())
    }

    /// Notes accepted uses: the key, and how often. One statement for any number.
    pub async fn count_uses(conn: &mut AsyncPgConnection, uses: &[(Uuid, i64)]) -> QueryResult<()> {
        let (ids, counts): (Vec<Uuid>, Vec<i64>) = uses.iter().copied().unzip();
        // locked in one order: two processes that write the same keys at once must not wait for each other
        diesel::sql_query(
            "WITH used AS ( \
                 SELECT k.id, u.times FROM UNNEST($1, $2) AS u (id, times) JOIN api_keys k ON k.id = u.id \
                 ORDER BY k.id FOR NO KEY UPDATE OF k \
             ) \
             UPDATE api_keys k SET usage_count = usage_count + used.times, last_used_at = now() \
             FROM used WHERE k.id = used.id",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<BigInt>, _>(counts)
        .execute(conn)
        .await?;
        Ok(())
    }
}
