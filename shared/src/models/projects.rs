//! Projects: what the members of an organization work on together; orchestrations belong to one.

use crate::{schema::projects, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where a project stands.
    #[derive(Default)]
    ProjectStatus {
        /// In work.
        #[default]
        Active = "active",
        /// Done.
        Completed = "completed",
        /// Kept.
        Archived = "archived",
        /// Given up.
        Failed = "failed",
    }
}

text_enum! {
    /// How much a project matters, in rising order.
    #[derive(Default)]
    ProjectPriority {
        /// It can wait.
        Low = "low",
        /// As usual.
        #[default]
        Medium = "medium",
        /// Before others.
        High = "high",
        /// Before everything.
        Urgent = "urgent",
    }
}

/// A project as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = projects, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Project {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub name: String,
    pub description: String,
    pub topic: String,
    pub status: ProjectStatus,
    pub priority: ProjectPriority,
    pub metadata: Value,
    pub version: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Project {
    /// The project, if it belongs to this organization.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        projects::table
            .filter(projects::id.eq(id).and(projects::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }
}
