//! Files of users: uploaded, or written by their orchestrations. The bytes are in the object store.

use crate::schema::files;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A file as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = files, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct File {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub user_id: Uuid,
    pub orchestration_id: Option<Uuid>,
    pub filename: String,
    pub size: i64,
    pub mime_type: String,
    pub s3_key: String,
    pub created_at: DateTime<Utc>,
}

/// A file whose bytes are stored.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = files)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewFile {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub user_id: Uuid,
    pub orchestration_id: Option<Uuid>,
    pub filename: String,
    pub size: i64,
    pub mime_type: String,
    pub s3_key: String,
}

impl File {
    /// Those of these files that are there, whoever owns them.
    pub async fn list_by_ids(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        files::table.filter(files::id.eq_any(ids)).select(Self::as_select()).load(conn).await
    }

    /// Notes files; those that are there already (a step that is recorded again) stay as they are.
    pub async fn insert(conn: &mut AsyncPgConnection, new: &[NewFile]) -> QueryResult<()> {
        diesel::insert_into(files::table).values(new).on_conflict_do_nothing().execute(conn).await?;
        Ok(())
    }
}
