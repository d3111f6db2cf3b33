//! The images of products: announced, uploaded, analysed.

use super::{ObjectDeletion, Product};
use crate::{
    schema::{job_images, product_images},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

text_enum! {
    /// Where the bytes of an image are.
    UploadStatus {
        /// Announced; nothing has come yet, as far as is known.
        Pending = "pending",
        /// In the object store.
        Uploaded = "uploaded",
        /// They came, and are of no use.
        Failed = "failed",
    }
}

/// An image as stored.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = product_images, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct ProductImage {
    pub id: Uuid,
    pub product_id: Uuid,
    pub user_id: Uuid,
    pub s3_key: String,
    pub thumbnail_key: Option<String>,
    pub original_filename: String,
    pub content_type: String,
    pub file_size_bytes: i64,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub is_primary: bool,
    pub upload_status: UploadStatus,
    pub job_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
}

/// An image to be announced; nothing is uploaded yet.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = product_images)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewProductImage {
    pub id: Uuid,
    pub product_id: Uuid,
    pub user_id: Uuid,
    pub s3_key: String,
    pub original_filename: String,
    pub content_type: String,
    pub file_size_bytes: i64,
}

impl ProductImage {
    /// Announces an image.
    pub async fn insert(conn: &mut AsyncPgConnection, image: &NewProductImage) -> QueryResult<Self> {
        diesel::insert_into(product_images::table).values(image).returning(Self::as_returning()).get_result(conn).await
    }

    /// The image, if it exists and is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        product_images::table
            .filter(product_images::id.eq(id).and(product_images::user_id.eq(user_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Those of `ids` that are images of this product, by id, held until the transaction ends.
    pub async fn lock(conn: &mut AsyncPgConnection, product_id: Uuid, ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        product_images::table
            .filter(product_images::product_id.eq(product_id).and(product_images::id.eq_any(ids)))
            .order(product_images::id)
            .select(Self::as_select())
            .for_update()
            .load(conn)
            .await
    }

    /// The images of several products, oldest first within each.
    pub async fn list_of_products(conn: &mut AsyncPgConnection, product_ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        product_images::table
            .filter(product_images::product_id.eq_any(product_ids))
            .order((product_images::product_id, product_images::created_at, product_images::id))
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// The images of a job that still exist, in the order in which they were given.
    pub async fn list_of_job(conn: &mut AsyncPgConnection, job_id: Uuid) -> QueryResult<Vec<Self>> {
        product_images::table
            .inner_join(job_images::table.on(job_images::image_id.eq(product_images::id)))
            .filter(job_images::job_id.eq(job_id))
            .order(job_images::position)
            .select(Self::as_select())
            .load(conn)
            .await
    }

    /// The bytes have come. The first image of a product that gets this far is its primary one. The caller holds the
    /// product, so that only one can be the first.
    pub async fn mark_uploaded(conn: &mut AsyncPgConnection, id: Uuid, file_size_bytes: i64) -> QueryResult<()> {
        diesel::sql_query(
            "UPDATE product_images SET upload_status = 'uploaded', file_size_bytes = $2, is_primary = is_primary OR \
                 NOT EXISTS (SELECT 1 FROM product_images other \
                             WHERE other.product_id = product_images.product_id AND other.is_primary) \
             WHERE id = $1",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(file_size_bytes)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Remembers the job that the first confirmation started.
    pub async fn set_job(conn: &mut AsyncPgConnection, id: Uuid, job_id: Uuid) -> QueryResult<()> {
        diesel::update(product_images::table.find(id)).set(product_images::job_id.eq(job_id)).execute(conn).await?;
        Ok(())
    }

    /// What `preprocess` learned from the bytes, which are of use, then: pixels of the upright image, the real type, where
    /// the thumbnail is.
    pub async fn set_dimensions(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        width: i32,
        height: i32,
        content_type: &str,
        thumbnail_key: &str,
    ) -> QueryResult<()> {
        diesel::update(product_images::table.find(id))
            .set((
                product_images::width.eq(width),
                product_images::height.eq(height),
                product_images::content_type.eq(content_type),
                product_images::thumbnail_key.eq(thumbnail_key),
                product_images::upload_status.eq(UploadStatus::Uploaded),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// `preprocess` found that the bytes are no usable image.
    pub async fn mark_unusable(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::update(product_images::table.find(id))
            .set(product_images::upload_status.eq(UploadStatus::Failed))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Makes an image the primary one instead of any other. The caller holds the product.
    pub async fn make_primary(conn: &mut AsyncPgConnection, product_id: Uuid, id: Uuid) -> QueryResult<()> {
        // two statements: the index that allows one primary image is checked row by row
        diesel::update(product_images::table)
            .filter(product_images::product_id.eq(product_id).and(product_images::is_primary))
            .filter(product_images::id.ne(id))
            .set(product_images::is_primary.eq(false))
            .execute(conn)
            .await?;
        diesel::update(product_images::table.find(id)).set(product_images::is_primary.eq(true)).execute(conn).await?;
        Product::follow_primary_image(conn, product_id).await
    }

    /// Deletes an image and leaves its objects to the scheduler. If it was primary, the oldest uploaded one follows.
    /// The caller holds the product.
    pub async fn delete(conn: &mut AsyncPgConnection, image: &Self) -> QueryResult<()> {
        ObjectDeletion::insert_of_images(conn, &[image.id]).await?;
        diesel::delete(product_images::table.find(image.id)).execute(conn).await?;
        if !image.is_primary {
            return Ok(());
        }
        let next: Option<Uuid> = product_images::table
            .filter(product_images::product_id.eq(image.product_id))
            .filter(product_images::upload_status.eq(UploadStatus::Uploaded))
            .order((product_images::created_at, product_images::id))
            .select(product_images::id)
            .first(conn)
            .await
            .optional()?;
        match next {
            Some(next) => Self::make_primary(conn, image.product_id, next).await,
            None => Product::follow_primary_image(conn, image.product_id).await,
        }
    }
}
