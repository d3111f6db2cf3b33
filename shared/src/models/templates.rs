//! Templates: what orchestrations are made from. Some ship with the system, others belong to an organization.

use crate::schema::templates;
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Nullable, Text, Uuid as SqlUuid},
};
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

/// A template to be made.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = templates)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewTemplate {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub name: String,
    pub description: String,
    pub category: String,
    pub is_public: bool,
    pub template_data: Value,
}

/// What changes in a template; `None` leaves a column alone.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = templates)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct TemplateChanges {
    pub name: Option<String>,
    pub description: Option<String>,
    pub category: Option<String>,
    pub is_public: Option<bool>,
    pub template_data: Option<Value>,
    pub updated_at: Option<DateTime<Utc>>,
}

/// A template with who made it: a row of a list.
#[derive(Debug, Clone, QueryableByName)]
pub struct TemplateRow {
    /// The template.
    #[diesel(embed)]
    pub template: Template,
    /// Username of who made it; none: it ships with the system.
    #[diesel(sql_type = Nullable<Text>)]
    pub username: Option<String>,
    /// Full name of who made it.
    #[diesel(sql_type = Nullable<Text>)]
    pub full_name: Option<String>,
}

impl Template {
    /// Stores a template.
    pub async fn insert(conn: &mut AsyncPgConnection, template: &NewTemplate) -> QueryResult<Self> {
        diesel::insert_into(templates::table).values(template).returning(Self::as_returning()).get_result(conn).await
    }

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

    /// Like [`Template::find`], and keeps it as it is until the transaction ends, but for its count of uses.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        templates::table
            .filter(templates::id.eq(id))
            .filter(templates::is_public.or(templates::organization_id.is_not_distinct_from(organization_id)))
            .select(Self::as_select())
            .for_no_key_update()
            .first(conn)
            .await
            .optional()
    }

    /// Changes a template that the current transaction holds.
    pub async fn update(conn: &mut AsyncPgConnection, id: Uuid, changes: TemplateChanges) -> QueryResult<Self> {
        let changes = TemplateChanges { updated_at: Some(Utc::now()), ..changes };
        diesel::update(templates::table.find(id)).set(changes).returning(Self::as_returning()).get_result(conn).await
    }

    /// Deletes a template that the current transaction holds. What was made from it stays.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::delete(templates::table.find(id)).execute(conn).await?;
        Ok(())
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

impl TemplateRow {
    /// What is selected, for lists.
    pub const COLUMNS: &str = "t.*, u.username, u.full_name";

    /// From where: templates `t` with users `u`, where somebody made them.
    pub const FROM: &str = "templates t LEFT JOIN users u ON u.id = t.created_by";

    /// What is compared with an organization to learn whether its members see a template.
    pub const SEEN_BY: &str = "t.is_public OR t.organization_id";

    /// The template with who made it, if members of this organization see it.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!(
            "SELECT {} FROM {} WHERE t.id = $1 AND ({} = $2)",
            Self::COLUMNS,
            Self::FROM,
            Self::SEEN_BY
        ))
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(organization_id)
        .get_result(conn)
        .await
        .optional()
    }
}
