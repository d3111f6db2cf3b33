//! Batches that several workers share. Each image is taken by one attempt of one job: of the batch itself, or of one that
//! helps it. An image whose taker's attempt is over is free; the writes of that attempt about it no longer count.

use super::{Job, JobImage, JobStatus, NewJob};
use crate::{
    events::Progress,
    kind::{BatchShare, Payload},
    queue::Hint,
    schema::jobs,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Int4, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Takes the first image that nobody works on, unless the batch is to end. Whoever asks holds it.
const TAKE: &str = "UPDATE job_images SET taken_by = $2, taken_attempt = $3 WHERE job_id = $1 AND image_id = ( \
    SELECT i.image_id FROM job_images i JOIN product_images p ON p.id = i.image_id \
    WHERE i.job_id = $1 AND i.status = 'pending' \
        AND NOT EXISTS (SELECT FROM jobs taker WHERE taker.id = i.taken_by AND taker.attempt = i.taken_attempt \
            AND taker.status = 'running') \
        AND NOT (SELECT cancel_requested FROM jobs WHERE id = $1) \
    ORDER BY i.position LIMIT 1 \
) RETURNING image_id";

/// Whether an image is this taker's, and how far its batch is. A step that waits for one of the same image that failed
/// will never run: it counts as finished.
const HELD: &str = "SELECT EXISTS ( \
        SELECT FROM job_images WHERE job_id = $1 AND image_id = $2 AND taken_by = $3 AND taken_attempt = $4) AS held, \
    count(*) AS total, \
    count(*) FILTER (WHERE status IN ('completed', 'failed', 'skipped') \
        OR (status = 'pending' AND EXISTS (SELECT FROM job_steps failed \
            WHERE failed.job_id = $1 AND failed.item = job_steps.item AND failed.status = 'failed'))) AS completed \
FROM job_steps WHERE job_id = $1 AND position >= 0";

/// Images that are neither done nor deleted.
const OPEN: &str = "SELECT count(*) AS open FROM job_images i JOIN product_images p ON p.id = i.image_id \
    WHERE i.job_id = $1 AND i.status = 'pending'";

/// An attempt that takes images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taker {
    /// The batch itself, or a job that helps it.
    pub job_id: Uuid,
    /// Which attempt of that job.
    pub attempt: i32,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = SqlUuid)]
    image_id: Uuid,
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = Bool)]
    held: bool,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    completed: i64,
}

#[derive(QueryableByName)]
struct Open {
    #[diesel(sql_type = BigInt)]
    open: i64,
}

impl JobImage {
    /// Takes an image of a batch that is in this attempt. `None`: there is no free one, or the batch is over.
    pub async fn take(conn: &mut AsyncPgConnection, batch: Taker, taker: Taker) -> QueryResult<Option<Uuid>> {
        conn.transaction(async |conn| {
            // in a statement before, so that the next one sees what others took while this one waited for the batch
            if !hold_batch(conn, batch).await? {
                return Ok(None);
            }
            let taken: Option<Taken> = diesel::sql_query(TAKE)
                .bind::<SqlUuid, _>(batch.job_id)
                .bind::<SqlUuid, _>(taker.job_id)
                .bind::<Int4, _>(taker.attempt)
                .get_result(conn)
                .await
                .optional()?;
            Ok(taken.map(|taken| taken.image_id))
        })
        .await
    }

    /// Holds the batch until the transaction ends, and says how far it is. `None`: the batch is over or in another attempt,
    /// or the image is no longer this taker's.
    pub async fn hold(
        conn: &mut AsyncPgConnection,
        batch: Taker,
        image_id: Uuid,
        taker: Taker,
    ) -> QueryResult<Option<Progress>> {
        if !hold_batch(conn, batch).await? {
            return Ok(None);
        }
        let Held { held, total, completed } = diesel::sql_query(HELD)
            .bind::<SqlUuid, _>(batch.job_id)
            .bind::<SqlUuid, _>(image_id)
            .bind::<SqlUuid, _>(taker.job_id)
            .bind::<Int4, _>(taker.attempt)
            .get_result(conn)
            .await?;
        let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(held.then(|| Progress { completed: count(completed), total: count(total) }))
    }

    /// How many images of a batch are not done, whoever works on them. Deleted ones do not count.
    pub async fn count_open(conn: &mut AsyncPgConnection, batch_id: Uuid) -> QueryResult<i64> {
        let Open { open } = diesel::sql_query(OPEN).bind::<SqlUuid, _>(batch_id).get_result(conn).await?;
        Ok(open)
    }
}

/// Holds a batch that runs in this attempt until the transaction ends. `false`: it does not.
async fn hold_batch(conn: &mut AsyncPgConnection, batch: Taker) -> QueryResult<bool> {
    let held: Option<Uuid> = jobs::table
        .filter(jobs::id.eq(batch.job_id).and(jobs::attempt.eq(batch.attempt)))
        .filter(jobs::status.eq(JobStatus::Running))
        .select(jobs::id)
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    Ok(held.is_some())
}

impl Job {
    /// The batch, if it runs in this attempt.
    pub async fn find_running(conn: &mut AsyncPgConnection, batch: Taker) -> QueryResult<Option<Self>> {
        jobs::table
            .filter(jobs::id.eq(batch.job_id).and(jobs::attempt.eq(batch.attempt)))
            .filter(jobs::status.eq(JobStatus::Running).and(jobs::cancel_requested.eq(false)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Asks other workers to help with this batch: jobs of the same tenant, which Redis is to be told of. Those of an
    /// attempt that is over find nothing to do.
    pub async fn share(&self, conn: &mut AsyncPgConnection, helpers: usize) -> QueryResult<Vec<Hint>> {
        let payload = || Payload::BatchShare(BatchShare { batch_id: self.id, attempt: self.attempt });
        let weight = self.weight.unsigned_abs().max(1);
        let jobs: Vec<NewJob> =
            (0..helpers).map(|_| NewJob::new(self.user_id, self.organization_id, weight, payload())).collect();
        Self::insert_all(conn, &jobs).await?;
        Ok(jobs.iter().map(NewJob::hint).collect())
    }
}
