//! Orchestrations: runs of a project's phases. An orchestration and its job are one thing in two rows with one id: `jobs`
//! has status and times, this table what is run and what it has used so far.

use crate::schema::orchestrations;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// An orchestration as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName, Insertable)]
#[diesel(table_name = orchestrations, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Orchestration {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub user_id: Uuid,
    pub project_id: Uuid,
    pub template_id: Option<Uuid>,
    pub topic: String,
    pub integration_enabled: bool,
    pub phases: Vec<String>,
    pub integrations: Vec<String>,
    pub model: String,
    pub max_tokens: i32,
    pub temperature: f64,
    pub completed_phases: i32,
    pub failed_phases: i32,
    pub tokens_used: i64,
    pub cost_nanos: i64,
    pub created_at: DateTime<Utc>,
}

impl Orchestration {
    /// The orchestration of a job, whoever owns it.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        orchestrations::table.find(id).select(Self::as_select()).first(conn).await
    }
}
