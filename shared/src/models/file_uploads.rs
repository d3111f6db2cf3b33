//! Files on their way into the object store: noted before anything is stored, so that what an upload leaves that never comes
//! to its end is found and cleared away.

use crate::schema::file_uploads;
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// An upload that has not come to its end.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = file_uploads, check_for_backend(diesel::pg::Pg))]
pub struct FileUpload {
    /// Of the object.
    pub key: String,
    /// The store's name of an upload in parts.
    pub upload_id: Option<String>,
}

impl FileUpload {
    /// Notes that an object is about to be stored.
    pub async fn begin(conn: &mut AsyncPgConnection, key: &str, upload_id: Option<&str>) -> QueryResult<()> {
        diesel::insert_into(file_uploads::table)
            .values((file_uploads::key.eq(key), file_uploads::upload_id.eq(upload_id)))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// The object is stored, and a row names it from now on; `false`: it was given up in between, and goes.
    pub async fn finish(conn: &mut AsyncPgConnection, key: &str) -> QueryResult<bool> {
        Ok(diesel::delete(file_uploads::table.find(key)).execute(conn).await? > 0)
    }

    /// Gives uploads up: what is stored of them is noted to be deleted. Those that have come to their end stay as they are.
    pub async fn give_up(conn: &mut AsyncPgConnection, keys: &[&str]) -> QueryResult<()> {
        diesel::sql_query(
            "WITH gone AS (DELETE FROM file_uploads WHERE key = ANY($1) RETURNING key) \
             INSERT INTO object_deletions (key) SELECT key FROM gone ON CONFLICT DO NOTHING",
        )
        .bind::<Array<Text>, _>(keys)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Uploads that were begun before this moment, by key: at most so many of those that come after `after`.
    pub async fn list_begun_before(
        conn: &mut AsyncPgConnection,
        moment: DateTime<Utc>,
        after: &str,
        most: i64,
    ) -> QueryResult<Vec<Self>> {
        file_uploads::table
            .filter(file_uploads::created_at.lt(moment).and(file_uploads::key.gt(after)))
            .order(file_uploads::key)
            .limit(most)
            .select(Self::as_select())
            .load(conn)
            .await
    }
}
