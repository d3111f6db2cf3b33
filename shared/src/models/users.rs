//! People: the account, and what somebody is in the current organization.

use super::{Role, Tier};
use crate::schema::{memberships, organizations, users};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

/// A user as stored.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// In lower case, unique.
    pub email: String,
    /// Unique, compared without case.
    pub username: String,
    /// For people.
    pub full_name: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
    /// `false`: every credential of the user is refused.
    pub is_active: bool,
    /// A login needs a code too.
    pub mfa_enabled: bool,
    /// The current organization.
    pub organization_id: Uuid,
    /// `theme`, `notifications.email`, `notifications.browser`, `default_model`.
    pub preferences: Value,
    /// The last successful login.
    pub last_login_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A user to be made.
#[derive(Debug, Clone)]
pub struct NewUser<'a> {
    /// Its id.
    pub id: Uuid,
    /// In lower case.
    pub email: &'a str,
    /// Letters, digits and `_`.
    pub username: &'a str,
    /// For people.
    pub full_name: &'a str,
    /// Argon2id, in PHC form.
    pub password_hash: &'a str,
    /// The first organization.
    pub organization_id: Uuid,
}

/// What changes in a user; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange<'a> {
    /// In lower case.
    pub email: Option<&'a str>,
    /// Letters, digits and `_`.
    pub username: Option<&'a str>,
    /// For people.
    pub full_name: Option<&'a str>,
    /// Top-level keys of the preferences, merged over the stored ones.
    pub preferences: Option<Value>,
    /// Keys of `preferences.notifications`, merged over the stored ones.
    pub notifications: Option<Value>,
}

/// A user together with role and tier in the current organization.
#[derive(Debug, Clone, Queryable)]
pub struct Account {
    /// The user.
    pub user: User,
    /// In the current organization.
    pub role: Role,
    /// The current organization's.
    pub tier: Tier,
}

impl User {
    /// Makes a user. Violates `users_email_key` or `users_username_key` if one of these is taken.
    pub async fn insert(conn: &mut AsyncPgConnection, user: &NewUser<'_>) -> QueryResult<Self> {
        let preferences = json!({
            "theme": "light",
            "notifications": { "email": true, "browser": true },
            "default_model": "gpt-4",
        });
        diesel::insert_into(users::table)
            .values((
                users::id.eq(user.id),
                users::email.eq(user.email),
                users::username.eq(user.username),
                users::full_name.eq(user.full_name),
                users::password_hash.eq(user.password_hash),
                users::organization_id.eq(user.organization_id),
                users::preferences.eq(preferences),
            ))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// The user with this address, which must be in lower case.
    pub async fn find_by_email(conn: &mut AsyncPgConnection, email: &str) -> QueryResult<Option<Self>> {
        users::table.filter(users::email.eq(email)).select(Self::as_select()).first(conn).await.optional()
    }

    /// The user, whatever the state of the account.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        users::table.find(id).select(Self::as_select()).first(conn).await
    }

    /// Changes what is given and nothing else. Violates `users_email_key` or `users_username_key` like
    /// [`User::insert`].
    pub async fn update(conn: &mut AsyncPgConnection, id: Uuid, change: &UserChange<'_>) -> QueryResult<Self> {
        // merged in the statement, so that two changes at once do not undo each other
        diesel::sql_query(
            // a link to choose a password went to the address before
            "WITH ended AS (UPDATE password_resets SET used_at = now() \
                            WHERE user_id = $1 AND used_at IS NULL AND $2 IS NOT NULL) \
             UPDATE users SET email = COALESCE($2, email), username = COALESCE($3, username), \
                 full_name = COALESCE($4, full_name), \
                 preferences = preferences || COALESCE($5, '{}') || jsonb_build_object( \
                     'notifications', COALESCE(preferences -> 'notifications', '{}') || COALESCE($6, '{}')), \
                 updated_at = now() \
             WHERE id = $1 RETURNING *",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<Text>, _>(change.email)
        .bind::<Nullable<Text>, _>(change.username)
        .bind::<Nullable<Text>, _>(change.full_name)
        .bind::<Nullable<Jsonb>, _>(&change.preferences)
        .bind::<Nullable<Jsonb>, _>(&change.notifications)
        .get_result(conn)
        .await
    }

    /// Id of the language model that a user asks who names none: the user's own choice, then the organization's.
    pub async fn default_model(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<String>> {
        let chosen: Option<(Value, Value)> = users::table
            .inner_join(organizations::table.on(organizations::id.eq(organization_id)))
            .filter(users::id.eq(id))
            .select((users::preferences, organizations::settings))
            .first(conn)
            .await
            .optional()?;
        let Some((preferences, settings)) = chosen else { return Ok(None) };
        let named = [preferences.get("default_model"), settings.get("default_ai_model")];
        let mut named = named.into_iter().flatten().filter_map(Value::as_str).filter(|model| !model.is_empty());
        Ok(named.next().map(ToOwned::to_owned))
    }

    /// Replaces the password's hash.
    pub async fn set_password(conn: &mut AsyncPgConnection, id: Uuid, hash: &str) -> QueryResult<()> {
        diesel::update(users::table.find(id))
            .set((users::password_hash.eq(hash), users::updated_at.eq(diesel::dsl::now)))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// The second factor's secret in base32: that of a factor in use, or of one that was set up and not confirmed yet.
    pub async fn mfa_secret(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<String>> {
        users::table.find(id).select(users::mfa_secret).first(conn).await
    }

    /// Keeps the secret of a second factor that is not confirmed yet; `false`: another one is in use.
    pub async fn set_up_mfa(conn: &mut AsyncPgConnection, id: Uuid, secret: &str) -> QueryResult<bool> {
        let unused = users::table.find(id).filter(users::mfa_enabled.eq(false));
        Ok(diesel::update(unused).set(users::mfa_secret.eq(secret)).execute(conn).await? == 1)
    }

    /// Switches the second factor on, with the time step of the code that confirmed it. `false`: it is on already, or its
    /// secret is another one by now.
    pub async fn enable_mfa(conn: &mut AsyncPgConnection, id: Uuid, secret: &str, step: i64) -> QueryResult<bool> {
        let unused = users::table.find(id).filter(users::mfa_enabled.eq(false)).filter(users::mfa_secret.eq(secret));
        let enabled = diesel::update(unused)
            .set((users::mfa_enabled.eq(true), users::mfa_last_step.eq(step), users::updated_at.eq(diesel::dsl::now)))
            .execute(conn)
            .await?;
        Ok(enabled == 1)
    }

    /// Switches the second factor off and forgets its secret; `false`: it is off.
    pub async fn disable_mfa(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<bool> {
        let disabled = diesel::update(users::table.find(id).filter(users::mfa_enabled))
            .set((
                users::mfa_enabled.eq(false),
                users::mfa_secret.eq(None::<String>),
                users::mfa_last_step.eq(None::<i64>),
                users::updated_at.eq(diesel::dsl::now),
            ))
            .execute(conn)
            .await?;
        Ok(disabled == 1)
    }

    /// Takes the code of this time step. `false`: it, or a later one, was taken before.
    pub async fn take_mfa_step(conn: &mut AsyncPgConnection, id: Uuid, step: i64) -> QueryResult<bool> {
        let before = users::mfa_last_step.is_null().or(users::mfa_last_step.lt(step));
        let untaken = users::table.find(id).filter(users::mfa_enabled).filter(before);
        Ok(diesel::update(untaken).set(users::mfa_last_step.eq(step)).execute(conn).await? == 1)
    }

    /// Notes a successful login. This is no change of the account: `updated_at` stays.
    pub async fn touch_login(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::update(users::table.find(id)).set(users::last_login_at.eq(diesel::dsl::now)).execute(conn).await?;
        Ok(())
    }
}

impl Account {
    /// The user with role and tier; fails if the user is no member of the current organization.
    pub async fn get(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<Self> {
        users::table
            .inner_join(
                memberships::table.on(memberships::user_id
                    .eq(users::id)
                    .and(memberships::organization_id.eq(users::organization_id))),
            )
            .inner_join(organizations::table.on(organizations::id.eq(users::organization_id)))
            .filter(users::id.eq(user_id))
            .select((User::as_select(), memberships::role, organizations::subscription_tier))
            .first(conn)
            .await
    }
}
