//! A large batch is shared: the worker that holds it asks others to help, and each takes an image when it has room for
//! one. So a batch is as fast as all the workers that are free, and one that dies costs the images it was at.

use super::image_analysis::Analyst;
use crate::{
    context::Context,
    outcome::{Outcome, Stop},
    reporter::Reporter,
    vision::Engine,
};
use futures_util::future::try_join_all;
use serde_json::json;
use shared::{
    kind::BatchShare,
    models::{Failure, Job, JobImage, JobStep, Product, ProductImage, Taker},
    queue::Hint,
};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Jobs that help one batch.
const HELPERS: usize = 3;

/// How often the holder of a batch looks whether the others are done with their images.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A helper that came to the worker which holds the batch is of use only elsewhere: it waits so long before it is offered
/// again, then twice as long, at most [`LONGEST_OFFER`].
const FIRST_OFFER: Duration = Duration::from_millis(500);
const LONGEST_OFFER: Duration = Duration::from_secs(8);

/// Fewest open images that make a batch worth sharing.
const WORTH_SHARING: usize = 8;

/// Whether a batch with so many open images is worth sharing: it is more than one worker has room for at once.
pub(super) const fn is_shared(context: &Context, open: usize) -> bool {
    open >= WORTH_SHARING && open > room(context)
}

/// Images in work at once: one more than there are threads, so that the next photo is fetched meanwhile.
pub(super) const fn room(context: &Context) -> usize {
    context.vision_threads + 1
}

/// Sees a batch to its end together with whoever helps.
pub(super) async fn lead(
    reporter: &Reporter<'_>,
    engine: &Engine,
    images: Vec<ProductImage>,
    title: Option<&str>,
) -> Result<(), Stop> {
    let (context, batch) = (reporter.context, reporter.job);
    let hints = batch.share(&mut *context.pool.get().await?, HELPERS).await?;
    // what is lost here, the scheduler tells Redis again
    if let Err(error) = Hint::push(&hints, &context.redis, &context.prefix).await {
        tracing::debug!(%error, "the helpers of a batch were not pushed");
    }
    let share = Share { context, engine, batch, taker: holder(batch), images: by_id(images), title };
    loop {
        share.work().await?;
        if JobImage::count_open(&mut *context.pool.get().await?, batch.id).await? == 0 {
            return Ok(());
        }
        // others are at the last ones; those of a helper that died become free when its attempt is over
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// `batch_share`: helps with a batch that another worker holds.
pub(super) async fn help(reporter: &Reporter<'_>, payload: &BatchShare) -> Result<Outcome, Stop> {
    let context = reporter.context;
    let mut conn = context.pool.get().await?;
    let batch = Taker { job_id: payload.batch_id, attempt: payload.attempt };
    let Some(batch) = Job::find_running(&mut conn, batch).await? else { return Ok(done()) };
    if JobImage::count_open(&mut conn, batch.id).await? == 0 {
        return Ok(done());
    }
    if batch.worker.as_deref() == Some(context.worker.as_str()) {
        let doubled = u32::try_from(reporter.job.attempt - 1).unwrap_or_default().min(16);
        let failure = Failure { code: "waiting".to_owned(), message: "This worker holds the batch itself.".to_owned() };
        let after = FIRST_OFFER.saturating_mul(1 << doubled).min(LONGEST_OFFER);
        return Ok(Outcome::Retry { after: Some(after), charge: false, failure });
    }
    let Some(engine) = &context.engine else {
        return Err(Stop::retry("models_not_loaded", "This worker was started without the models."));
    };
    let product = batch.payload().ok().and_then(|payload| payload.product_id());
    let title = match product {
        Some(product) => Product::find_title(&mut conn, product).await?,
        None => None,
    };
    let images = by_id(ProductImage::list_of_job(&mut conn, batch.id).await?);
    drop(conn);
    let share = Share { context, engine, batch: &batch, taker: holder(reporter.job), images, title: title.as_deref() };
    match share.work().await {
        // the batch has ended, or is another attempt's: nothing is left to help with
        Ok(()) | Err(Stop::Lost) => Ok(done()),
        Err(stop @ Stop::With(_)) => Err(stop),
    }
}

fn done() -> Outcome {
    Outcome::Done(json!({}))
}

/// The attempt that holds a job.
const fn holder(job: &Job) -> Taker {
    Taker { job_id: job.id, attempt: job.attempt }
}

fn by_id(images: Vec<ProductImage>) -> HashMap<Uuid, ProductImage> {
    images.into_iter().map(|image| (image.id, image)).collect()
}

/// One worker's part in a batch.
struct Share<'a> {
    context: &'a Context,
    engine: &'a Engine,
    batch: &'a Job,
    taker: Taker,
    /// Those of the batch when this part began.
    images: HashMap<Uuid, ProductImage>,
    title: Option<&'a str>,
}

impl Share<'_> {
    /// Takes images and analyses them until none is free.
    async fn work(&self) -> Result<(), Stop> {
        // lanes, each of which takes for itself: whoever takes waits for those who write about the batch, and they must go
        // on meanwhile
        try_join_all((0..room(self.context)).map(|_| self.lane())).await?;
        Ok(())
    }

    /// One image after the other.
    async fn lane(&self) -> Result<(), Stop> {
        while let Some((id, steps)) = self.take().await? {
            // one that was deleted in between is no longer of interest to anybody
            if let Some(image) = self.images.get(&id) {
                self.analyse(image, steps).await?;
            }
        }
        Ok(())
    }

    /// A free image with the steps that whoever had it before has recorded.
    async fn take(&self) -> Result<Option<(Uuid, Vec<JobStep>)>, Stop> {
        let mut conn = self.context.pool.get().await?;
        let Some(id) = JobImage::take(&mut conn, holder(self.batch), self.taker).await? else { return Ok(None) };
        Ok(Some((id, JobStep::list_of_item(&mut conn, self.batch.id, id).await?)))
    }

    async fn analyse(&self, image: &ProductImage, steps: Vec<JobStep>) -> Result<(), Stop> {
        let reporter = Reporter::new(self.context, self.batch, steps).sharing(self.taker);
        // how it ended is in its row
        Analyst::new(&reporter, self.engine, image).analyse(self.title).await.map(drop)
    }
}
