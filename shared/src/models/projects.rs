//! Projects: what the members of an organization work on together; orchestrations belong to one.

use super::{JobStatus, OrchestrationRow};
use crate::{schema::projects, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Double, Text, Timestamptz, Uuid as SqlUuid},
};
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

/// A project to be made.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = projects)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewProject {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub created_by: Uuid,
    pub name: String,
    pub description: String,
    pub topic: String,
    pub status: ProjectStatus,
    pub priority: ProjectPriority,
    pub metadata: Value,
}

/// What changes in a project; `None` leaves a column alone.
#[derive(Debug, Clone, Default, PartialEq, AsChangeset)]
#[diesel(table_name = projects)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct ProjectChanges {
    pub name: Option<String>,
    pub description: Option<String>,
    pub topic: Option<String>,
    pub status: Option<ProjectStatus>,
    pub priority: Option<ProjectPriority>,
    pub metadata: Option<Value>,
}

/// A project with who made it: a row of a list.
#[derive(Debug, Clone, QueryableByName)]
pub struct ProjectRow {
    /// The project.
    #[diesel(embed)]
    pub project: Project,
    /// Username of who made it.
    #[diesel(sql_type = Text)]
    pub username: String,
    /// Full name of who made it.
    #[diesel(sql_type = Text)]
    pub full_name: String,
}

/// One of the latest orchestrations of a project.
#[derive(Debug, Clone, QueryableByName)]
pub struct ProjectRun {
    /// Its id, and its job's.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Where its job stands.
    #[diesel(sql_type = Text)]
    pub status: JobStatus,
    /// Per cent of the phases that ended which ended well; 0 if none ended.
    #[diesel(sql_type = Double)]
    pub success_rate: f64,
    /// When it was started.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

impl Project {
    /// Stores a project.
    pub async fn insert(conn: &mut AsyncPgConnection, project: &NewProject) -> QueryResult<Self> {
        diesel::insert_into(projects::table).values(project).returning(Self::as_returning()).get_result(conn).await
    }

    /// The project, if it belongs to this organization.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        projects::table
            .filter(projects::id.eq(id).and(projects::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Like [`Project::find`], and keeps it in its version until the transaction ends. What belongs to the project may
    /// come and go meanwhile, so that nobody who works for it has to wait.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        projects::table
            .filter(projects::id.eq(id).and(projects::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .for_no_key_update()
            .first(conn)
            .await
            .optional()
    }

    /// Changes a project that the current transaction holds, and counts the change.
    pub async fn update(conn: &mut AsyncPgConnection, id: Uuid, changes: ProjectChanges) -> QueryResult<Self> {
        diesel::update(projects::table.find(id))
            .set((changes, projects::version.eq(projects::version + 1), projects::updated_at.eq(diesel::dsl::now)))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// The latest orchestrations of a project, newest first.
    pub async fn list_runs(conn: &mut AsyncPgConnection, id: Uuid, limit: i64) -> QueryResult<Vec<ProjectRun>> {
        diesel::sql_query(format!(
            "SELECT r.id, r.status, r.created_at, r.success_rate FROM {} \
             WHERE r.project_id = $1 ORDER BY r.created_at DESC, r.id DESC LIMIT $2",
            OrchestrationRow::FROM,
        ))
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await
    }
}

impl ProjectRow {
    /// What is selected, for lists.
    pub const COLUMNS: &str = "p.*, u.username, u.full_name";

    /// From where: projects `p` with users `u`.
    pub const FROM: &str = "projects p JOIN users u ON u.id = p.created_by";

    /// The project with who made it, if it belongs to this organization.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!(
            "SELECT {} FROM {} WHERE p.id = $1 AND p.organization_id = $2",
            Self::COLUMNS,
            Self::FROM
        ))
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(organization_id)
        .get_result(conn)
        .await
        .optional()
    }
}
