//! Products: what a user sells, one owner each. Another user's product is as good as absent.

use super::{Cancelled, Ended, Job, JobStatus, ObjectDeletion};
use crate::{
    schema::{job_images, jobs, product_images, products},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_types::Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where a product stands.
    ProductStatus {
        /// Not offered yet.
        Draft = "draft",
        /// A draft, one of whose images is being analysed.
        Processing = "processing",
        /// Offered.
        Active = "active",
        /// Put away.
        Archived = "archived",
    }
}

/// A product as stored.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = products, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Product {
    pub id: Uuid,
    pub user_id: Uuid,
    pub title: String,
    pub description: Option<String>,
    pub category: Option<String>,
    pub subcategory: Option<String>,
    pub ai_description: Option<String>,
    pub status: ProductStatus,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A product to be made.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = products)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewProduct {
    pub id: Uuid,
    pub user_id: Uuid,
    pub title: String,
    pub description: Option<String>,
    pub category: Option<String>,
    pub subcategory: Option<String>,
    pub status: ProductStatus,
    pub metadata: Value,
}

/// What changes in a product; `None` leaves a column alone, `Some(None)` empties it.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = products)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct ProductChanges {
    pub title: Option<String>,
    pub description: Option<Option<String>>,
    pub category: Option<Option<String>>,
    pub subcategory: Option<Option<String>>,
    pub status: Option<ProductStatus>,
    pub metadata: Option<Value>,
    pub updated_at: Option<DateTime<Utc>>,
}

/// What a deletion did to the jobs over the images in question; the caller tells Redis, after the commit.
#[derive(Debug, Default)]
pub struct StoppedJobs {
    /// Waited, and have ended: listeners and queues are to be told.
    pub ended: Vec<Ended>,
    /// Run: their workers are to be told.
    pub running: Vec<Uuid>,
}

impl Product {
    /// Stores a product.
    pub async fn insert(conn: &mut AsyncPgConnection, product: &NewProduct) -> QueryResult<Self> {
        diesel::insert_into(products::table).values(product).returning(Self::as_returning()).get_result(conn).await
    }

    /// The product's title, whoever owns it.
    pub async fn find_title(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<String>> {
        products::table.find(id).select(products::title).first(conn).await.optional()
    }

    /// The product, if it exists and is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        products::table
            .filter(products::id.eq(id).and(products::user_id.eq(user_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Like [`Product::find`], and holds the row until the transaction ends, so that what is decided about its images
    /// (which one is primary, whether one is in work) stays true.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        products::table
            .filter(products::id.eq(id).and(products::user_id.eq(user_id)))
            .select(Self::as_select())
            .for_update()
            .first(conn)
            .await
            .optional()
    }

    /// Changes a product of this user. `None`: there is no such product.
    pub async fn update(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        user_id: Uuid,
        changes: ProductChanges,
    ) -> QueryResult<Option<Self>> {
        let changes = ProductChanges { updated_at: Some(Utc::now()), ..changes };
        diesel::update(products::table)
            .filter(products::id.eq(id).and(products::user_id.eq(user_id)))
            .set(changes)
            .returning(Self::as_returning())
            .get_result(conn)
            .await
            .optional()
    }

    /// An image of this product is in work: a draft shows it.
    pub async fn begin_processing(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::update(products::table)
            .filter(products::id.eq(id).and(products::status.eq(ProductStatus::Draft)))
            .set((products::status.eq(ProductStatus::Processing), products::updated_at.eq(diesel::dsl::now)))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Takes the description of the primary image's analysis, or none where that image has none.
    pub async fn follow_primary_image(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        diesel::sql_query(
            "UPDATE products SET updated_at = now(), ai_description = ( \
                 SELECT a.description_text FROM product_images i JOIN analyses a ON a.product_image_id = i.id \
                 WHERE i.product_id = products.id AND i.is_primary) \
             WHERE id = $1",
        )
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Stops the jobs that are about this image alone; one over several images goes on without it.
    pub async fn stop_jobs_of_image(
        conn: &mut AsyncPgConnection,
        image_id: Uuid,
        user_id: Uuid,
    ) -> QueryResult<StoppedJobs> {
        let mut stopped = StoppedJobs::default();
        let alone = open_jobs(conn, &[image_id]).await?.into_iter().filter(|(_, items)| *items == 1);
        stop_jobs(conn, alone.map(|(id, _)| id), user_id, &mut stopped).await?;
        Ok(stopped)
    }

    /// Deletes a product of this user with its images and analyses, stops the jobs over them, and leaves the objects
    /// to the scheduler, in one transaction. `None`: there is no such product.
    ///
    /// A job that has begun holds its own row before it touches the product, so the jobs are stopped before the
    /// product is locked. A job that was accepted in between is stopped afterwards.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<StoppedJobs>> {
        conn.transaction(async |conn| {
            if Self::find(conn, id, user_id).await?.is_none() {
                return Ok(None);
            }
            let mut stopped = StoppedJobs::default();
            let images = image_ids(conn, id).await?;
            let open = open_jobs(conn, &images).await?;
            stop_jobs(conn, open.into_iter().map(|(id, _)| id), user_id, &mut stopped).await?;
            if Self::lock(conn, id, user_id).await?.is_none() {
                return Ok(None);
            }
            let images = image_ids(conn, id).await?;
            let open = open_jobs(conn, &images).await?;
            stop_jobs(conn, open.into_iter().map(|(id, _)| id), user_id, &mut stopped).await?;
            ObjectDeletion::insert_of_images(conn, &images).await?;
            diesel::delete(products::table.find(id)).execute(conn).await?;
            Ok(Some(stopped))
        })
        .await
    }
}

async fn image_ids(conn: &mut AsyncPgConnection, product_id: Uuid) -> QueryResult<Vec<Uuid>> {
    product_images::table.filter(product_images::product_id.eq(product_id)).select(product_images::id).load(conn).await
}

/// The jobs over these images that have not ended and were not asked to, with their number of images; in the order of
/// their ids, so that two transactions which stop them cannot block each other.
async fn open_jobs(conn: &mut AsyncPgConnection, image_ids: &[Uuid]) -> QueryResult<Vec<(Uuid, i32)>> {
    job_images::table
        .inner_join(jobs::table)
        .filter(job_images::image_id.eq_any(image_ids))
        .filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]))
        .filter(jobs::cancel_requested.eq(false))
        .select((jobs::id, jobs::items_total))
        .distinct()
        .order(jobs::id)
        .load(conn)
        .await
}

async fn stop_jobs(
    conn: &mut AsyncPgConnection,
    ids: impl Iterator<Item = Uuid>,
    user_id: Uuid,
    stopped: &mut StoppedJobs,
) -> QueryResult<()> {
    for job_id in ids {
        match Job::cancel(conn, job_id, user_id).await? {
            Some(Cancelled::AtOnce(ended)) => stopped.ended.push(ended),
            Some(Cancelled::Requested) => stopped.running.push(job_id),
            Some(Cancelled::TooLate(_)) | None => {}
        }
    }
    Ok(())
}
