//! Pipelines: graphs of nodes that members of an organization share.

use crate::{
    schema::{pipeline_schedules, pipelines},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{prelude::*, result::Error};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
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

/// A pipeline without its nodes and connections, which may be large: a row of a list.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = pipelines, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct PipelineRow {
    pub id: Uuid,
    pub created_by: Uuid,
    pub name: String,
    pub description: String,
    pub status: PipelineStatus,
    pub metadata: Value,
    pub node_count: i32,
    pub last_executed: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A pipeline to be made; its nodes and connections make sense and have their defaults.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = pipelines)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewPipeline {
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
}

/// What changes in a pipeline; `None` leaves a column alone.
#[derive(Debug, Clone, Default, PartialEq, AsChangeset)]
#[diesel(table_name = pipelines)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct PipelineChanges {
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: Option<PipelineStatus>,
    pub metadata: Option<Value>,
    pub nodes: Option<Value>,
    pub connections: Option<Value>,
    pub node_count: Option<i32>,
}

impl Pipeline {
    /// Stores a pipeline.
    pub async fn insert(conn: &mut AsyncPgConnection, pipeline: &NewPipeline) -> QueryResult<Self> {
        diesel::insert_into(pipelines::table).values(pipeline).returning(Self::as_returning()).get_result(conn).await
    }

    /// Like [`Pipeline::find`], and holds the row until the transaction ends, so that what is decided by its version stays
    /// true.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        pipelines::table
            .filter(pipelines::id.eq(id).and(pipelines::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .for_update()
            .first(conn)
            .await
            .optional()
    }

    /// Changes a pipeline that the current transaction has locked, and counts the change.
    pub async fn update(conn: &mut AsyncPgConnection, id: Uuid, changes: PipelineChanges) -> QueryResult<Self> {
        diesel::update(pipelines::table.find(id))
            .set((changes, pipelines::version.eq(pipelines::version + 1), pipelines::updated_at.eq(diesel::dsl::now)))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// Deletes a pipeline that is in this version, with its schedules; its executions stay. `false`: there is none in this
    /// version, and nothing was deleted.
    ///
    /// The schedules go first: the scheduler, too, holds a schedule before it touches the pipeline.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, version: i32) -> QueryResult<bool> {
        let deleted = conn.transaction(async |conn| {
            let schedules = pipeline_schedules::table.filter(pipeline_schedules::pipeline_id.eq(id));
            diesel::delete(schedules).execute(conn).await?;
            let pipeline = pipelines::table.filter(pipelines::id.eq(id).and(pipelines::version.eq(version)));
            match diesel::delete(pipeline).execute(conn).await? {
                0 => Err(Error::RollbackTransaction),
                _ => Ok(()),
            }
        });
        match deleted.await {
            Ok(()) => Ok(true),
            Err(Error::RollbackTransaction) => Ok(false),
            Err(error) => Err(error),
        }
    }

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
