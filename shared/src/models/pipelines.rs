//! Pipelines: graphs of nodes that members of an organization share.

use crate::{schema::pipelines, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where a pipeline stands; all but archived ones can be run.
    #[derive(Default)]
    PipelineStatus {
        /// In the making.
        #[default]
        Draft = "draft",
        /// In use.
        Published = "published",
        /// Kept, and not to be run.
        Archived = "archived",
    }
}

/// A pipeline as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = pipelines, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Pipeline {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub name: String,
    pub description: String,
    pub status: PipelineStatus,
    pub metadata: Value,
    pub nodes: Value,
    pub connections: Value,
    pub node_count: i32,
    pub version: i32,
    pub last_executed: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Pipeline {
    /// The pipeline, if it belongs to this organization.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        pipelines::table
            .filter(pipelines::id.eq(id).and(pipelines::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }
}
