//! Templates: what orchestrations are made from. Some ship with the system, others belong to an organization.

use crate::schema::templates;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// A template as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = templates, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Template {
    pub id: Uuid,
    pub organization_id: Option<Uuid>,
    pub created_by: Option<Uuid>,
    pub name: String,
    pub description: String,
    pub category: String,
    pub is_public: bool,
    pub usage_count: i64,
    pub template_data: Value,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Template {
    /// The template, if members of this organization see it: it is theirs, or public.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        templates::table
            .filter(templates::id.eq(id))
            .filter(templates::is_public.or(templates::organization_id.is_not_distinct_from(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Counts one more orchestration that is made from it, in the caller's transaction.
    pub async fn count_use(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::update(templates::table.find(id))
            .set(templates::usage_count.eq(templates::usage_count + 1))
            .execute(conn)
            .await?;
        Ok(())
    }
}
