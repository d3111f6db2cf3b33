//! Objects whose rows are gone: noted in the transaction that deletes the row, deleted later by the scheduler.

use crate::schema::{object_deletions, product_images};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// An object to be deleted.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = object_deletions, check_for_backend(diesel::pg::Pg))]
pub struct ObjectDeletion {
    /// Its key in the bucket.
    pub key: String,
    /// Since when it is of no use.
    pub created_at: DateTime<Utc>,
}

impl ObjectDeletion {
    /// Notes the objects of these images: the upload and the thumbnail, which a running job may be about to store even
    /// if the row does not name it yet.
    pub async fn insert_of_images(conn: &mut AsyncPgConnection, image_ids: &[Uuid]) -> QueryResult<()> {
        let keys: Vec<(String, Option<String>)> = product_images::table
            .filter(product_images::id.eq_any(image_ids))
            .select((product_images::s3_key, product_images::thumbnail_key))
            .load(conn)
            .await?;
        let created_at = Utc::now();
        let rows: Vec<Self> = keys
            .into_iter()
            .flat_map(|(key, thumbnail)| {
                let thumbnail = thumbnail.unwrap_or_else(|| crate::storage::thumbnail_key(&key));
                [key, thumbnail]
            })
            .map(|key| Self { key, created_at })
            .collect();
        diesel::insert_into(object_deletions::table).values(rows).on_conflict_do_nothing().execute(conn).await?;
        Ok(())
    }

    /// Notes the objects of the files that go with this user and these organizations.
    pub async fn insert_of_files(
        conn: &mut AsyncPgConnection,
        user_id: Uuid,
        organization_ids: &[Uuid],
    ) -> QueryResult<()> {
        diesel::sql_query(
            "INSERT INTO object_deletions (key) \
             SELECT s3_key FROM files WHERE user_id = $1 UNION SELECT s3_key FROM files WHERE organization_id = ANY($2) \
             ON CONFLICT DO NOTHING",
        )
        .bind::<SqlUuid, _>(user_id)
        .bind::<Array<SqlUuid>, _>(organization_ids)
        .execute(conn)
        .await?;
        Ok(())
    }
}
