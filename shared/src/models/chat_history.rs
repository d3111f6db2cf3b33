//! The kept history of `/chat` and `/ws`: what was said before, and what a user chats with. Entries are written where the
//! jobs end that answered.

use crate::schema::{chat_entries, organizations, users};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// What a user said and what a model answered.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = chat_entries, check_for_backend(diesel::pg::Pg))]
pub struct ChatExchange {
    /// The id of the job that answered.
    pub id: Uuid,
    /// The user's text.
    pub message: String,
    /// The model's.
    pub response: String,
    /// As it was asked for.
    pub model: String,
    /// When it was answered.
    pub created_at: DateTime<Utc>,
}

impl ChatExchange {
    /// The last exchanges of a user, newest first.
    pub async fn list_last(conn: &mut AsyncPgConnection, user_id: Uuid, limit: i64) -> QueryResult<Vec<Self>> {
        chat_entries::table
            .filter(chat_entries::user_id.eq(user_id))
            .order((chat_entries::created_at.desc(), chat_entries::id.desc()))
            .limit(limit)
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// Forgets everything a user said and heard.
    pub async fn clear(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<usize> {
        diesel::delete(chat_entries::table.filter(chat_entries::user_id.eq(user_id))).execute(conn).await
    }
}

/// The models that a user chats with where none is named.
#[derive(Debug, Clone)]
pub struct ChatDefaults {
    /// The user's own choice.
    pub of_user: Option<String>,
    /// The organization's.
    pub of_organization: Option<String>,
}

impl ChatDefaults {
    /// Reads both.
    pub async fn get(conn: &mut AsyncPgConnection, user_id: Uuid, organization_id: Uuid) -> QueryResult<Self> {
        let (preferences, settings): (Value, Value) = users::table
            .inner_join(organizations::table.on(organizations::id.eq(organization_id)))
            .filter(users::id.eq(user_id))
            .select((users::preferences, organizations::settings))
            .first(conn)
            .await?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        Ok(Self { of_user: text(&preferences["default_model"]), of_organization: text(&settings["default_ai_model"]) })
    }
}
