//! Files of users: uploaded, or written by their orchestrations. The bytes are in the object store.

use crate::schema::files;
use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_types::Uuid as SqlUuid};
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

    /// Notes one file.
    pub async fn insert_one(conn: &mut AsyncPgConnection, new: &NewFile) -> QueryResult<Self> {
        diesel::insert_into(files::table).values(new).returning(Self::as_returning()).get_result(conn).await
    }

    /// The file, if it exists and is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        let file = files::table.find(id).filter(files::user_id.eq(user_id));
        file.select(Self::as_select()).first(conn).await.optional()
    }

    /// The file, whoever's it is.
    pub async fn find_of_anyone(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        files::table.find(id).select(Self::as_select()).first(conn).await.optional()
    }

    /// Deletes a file, and notes its object to be deleted, in one statement; `false` if this user has no such file.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<bool> {
        let noted = diesel::sql_query(
            "WITH gone AS (DELETE FROM files WHERE id = $1 AND user_id = $2 RETURNING s3_key) \
             INSERT INTO object_deletions (key) SELECT s3_key FROM gone \
             ON CONFLICT (key) DO UPDATE SET created_at = now()",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(user_id)
        .execute(conn)
        .await?;
        Ok(noted > 0)
    }
}
