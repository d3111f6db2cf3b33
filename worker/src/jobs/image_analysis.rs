//! `image_analysis`: five steps for each image of a job. What a step found is stored with it, so that a job taken over
//! after a crash goes on at the step where it died; the later steps then decode the photo again, and nothing else twice.

use super::batch;
use crate::{
    context::Context,
    outcome::{Outcome, Stop},
    reporter::{Begun, Reporter, also, nothing},
    vision::{
        self, Attribute, Classification, Defect, Description, Engine, ImageLimits, Photo, Preprocess, VisionError,
    },
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use shared::{
    kind::{AnalysisStep, ImageAnalysis, JobType},
    models::{self, Analysis, Failure, Findings, ImageOutcome, Job, JobImage, Product, ProductImage, StepKey},
    storage,
};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// How one image ended: well, or with this failure.
pub(super) type Verdict = Result<(), Failure>;

pub(super) async fn run(reporter: &Reporter<'_>, payload: &ImageAnalysis) -> Result<Outcome, Stop> {
    let context = reporter.context;
    let Some(engine) = &context.engine else {
        return Err(Stop::retry("models_not_loaded", "This worker was started without the models."));
    };
    let mut conn = context.pool.get().await?;
    let listed = JobImage::list(&mut conn, reporter.job_id).await?;
    let images = ProductImage::list_of_job(&mut conn, reporter.job_id).await?;
    let title = Product::find_title(&mut conn, payload.product_id).await?;
    drop(conn);

    let open: Vec<Uuid> =
        listed.iter().filter(|image| image.status == ImageOutcome::Pending).map(|image| image.image_id).collect();
    if payload.job_type == JobType::Batch && batch::is_shared(context, open.len()) {
        batch::lead(reporter, engine, images, title.as_deref()).await?;
        let listed = JobImage::list(&mut *context.pool.get().await?, reporter.job_id).await?;
        return Ok(conclude(listed.iter().filter_map(known_verdict).collect()));
    }
    let mut verdicts: Vec<Verdict> = listed.iter().filter_map(known_verdict).collect();
    let analyses: Vec<_> = images
        .iter()
        .filter(|image| open.contains(&image.id))
        .map(|image| Analyst::new(reporter, engine, image))
        .map(|analyst| analyst.analyse(title.as_deref()).boxed())
        .collect();
    let mut running = stream::iter(analyses).buffer_unordered(batch::room(context));
    while let Some(verdict) = running.try_next().await? {
        verdicts.push(verdict);
    }
    Ok(conclude(verdicts))
}

fn known_verdict(image: &JobImage) -> Option<Verdict> {
    match image.status {
        ImageOutcome::Pending => None,
        ImageOutcome::Completed => Some(Ok(())),
        ImageOutcome::Failed => {
            let message = image.error_message.clone().unwrap_or_default();
            Some(Err(Failure { code: "image_failed".to_owned(), message }))
        }
    }
}

/// Some good images make a completed job; none makes a failed one.
fn conclude(verdicts: Vec<Verdict>) -> Outcome {
    let completed = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
    let result = json!({ "completed_images": completed, "failed_images": verdicts.len() - completed });
    if completed > 0 {
        return Outcome::Done(result);
    }
    let deleted = || Failure {
        code: "images_deleted".to_owned(),
        message: "The images were deleted before they could be analysed.".to_owned(),
    };
    let failure = verdicts.into_iter().find_map(Result::err).unwrap_or_else(deleted);
    Outcome::Fail { failure, result: Some(result) }
}

/// Takes one image through the steps.
pub(super) struct Analyst<'a> {
    reporter: &'a Reporter<'a>,
    context: &'a Context,
    engine: &'a Engine,
    image: &'a ProductImage,
    /// Decoded when the first step that looks at it runs.
    photo: OnceCell<Photo>,
}

/// Why a step gave nothing.
enum Trouble {
    /// The image is at fault: it fails, the job goes on.
    Image(Failure),
    /// The attempt ends.
    Attempt(Stop),
}

impl<S: Into<Stop>> From<S> for Trouble {
    fn from(stop: S) -> Self {
        Self::Attempt(stop.into())
    }
}

impl Trouble {
    fn of(error: VisionError) -> Self {
        match error.as_image_error() {
            Some(image) => Self::Image(Failure { code: image.code().to_owned(), message: image.to_string() }),
            None => Self::Attempt(Stop::retry("model_failed", error.to_string())),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Attributes {
    attributes: Vec<Attribute>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Defects {
    defects: Vec<Defect>,
}

impl<'a> Analyst<'a> {
    pub(super) fn new(reporter: &'a Reporter<'a>, engine: &'a Engine, image: &'a ProductImage) -> Self {
        Self { reporter, context: reporter.context, engine, image, photo: OnceCell::new() }
    }

    pub(super) async fn analyse(self, title: Option<&str>) -> Result<Verdict, Stop> {
        match self.steps(title).await {
            Ok(()) => Ok(Ok(())),
            Err(Trouble::Image(failure)) => Ok(Err(failure)),
            Err(Trouble::Attempt(stop)) => Err(stop),
        }
    }

    async fn steps(&self, title: Option<&str>) -> Result<(), Trouble> {
        let mut spent_ms = self.preprocess().await?;
        let (classification, ms) = self
            .step(AnalysisStep::Classify, async {
                self.engine.classify(self.photo().await?).await.map_err(Trouble::of)
            })
            .await?;
        spent_ms += ms;
        let (Attributes { attributes }, ms) = self
            .step(AnalysisStep::ExtractAttributes, async {
                let attributes = self.engine.extract_attributes(self.photo().await?, &classification).await;
                Ok(Attributes { attributes: attributes.map_err(Trouble::of)? })
            })
            .await?;
        spent_ms += ms;
        let (Defects { defects }, ms) = self
            .step(AnalysisStep::DetectDefects, async {
                let defects = self.engine.detect_defects(self.photo().await?).await;
                Ok(Defects { defects: defects.map_err(Trouble::of)? })
            })
            .await?;
        spent_ms += ms;
        self.describe(title, classification, attributes, defects, spent_ms).await
    }

    /// Finds out what the file is, and stores its thumbnail. Returns the milliseconds it took.
    async fn preprocess(&self) -> Result<i64, Trouble> {
        let key = self.key(AnalysisStep::Preprocess);
        if let Some((_, ms)) = self.reporter.finished::<Preprocess>(key) {
            return Ok(ms);
        }
        let begun = self.reporter.begin(key).await?;
        let found = async {
            let bytes = self.bytes().await?;
            let declared = self.image.content_type.clone();
            let found = self.engine.preprocess(bytes, declared, ImageLimits::default()).await.map_err(Trouble::of)?;
            let key = storage::thumbnail_key(&self.image.s3_key);
            let stored =
                self.context.storage.put(&key, Bytes::from(found.thumbnail), &found.result.thumbnail.content_type);
            stored.await.map_err(storage_failed)?;
            // a photo that is there already is the same
            let _ = self.photo.set(found.photo);
            Ok((found.result, key))
        };
        match found.await {
            Ok((result, thumbnail_key)) => {
                let (job_id, image_id) = (self.reporter.job_id, self.image.id);
                let (width, height) = (pixels(result.width), pixels(result.height));
                let content_type = result.content_type.clone();
                let also = also(move |conn| {
                    let (content_type, thumbnail_key) = (content_type.clone(), thumbnail_key.clone());
                    async move {
                        Analysis::begin(conn, job_id, image_id).await?;
                        ProductImage::set_dimensions(conn, image_id, width, height, &content_type, &thumbnail_key).await
                    }
                    .boxed()
                });
                Ok(self.reporter.complete(begun, &result, also).await?)
            }
            Err(trouble) => Err(self.settle(begun, AnalysisStep::Preprocess, trouble).await?),
        }
    }

    /// Runs one step that only looks at the photo, unless an earlier attempt finished it. Returns what was found and the
    /// milliseconds it took.
    async fn step<T: Serialize + DeserializeOwned>(
        &self,
        step: AnalysisStep,
        look: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<(T, i64), Trouble> {
        let key = self.key(step);
        if let Some(earlier) = self.reporter.finished(key) {
            return Ok(earlier);
        }
        let begun = self.reporter.begin(key).await?;
        match look.await {
            Ok(found) => {
                let ms = self.reporter.complete(begun, &found, nothing).await?;
                Ok((found, ms))
            }
            Err(trouble) => Err(self.settle(begun, step, trouble).await?),
        }
    }

    /// The last step: puts the others' results into words and writes the analysis, in the transaction that records it.
    async fn describe(
        &self,
        title: Option<&str>,
        classification: Classification,
        attributes: Vec<Attribute>,
        defects: Vec<Defect>,
        spent_ms: i64,
    ) -> Result<(), Trouble> {
        let begun = self.reporter.begin(self.key(AnalysisStep::Describe)).await?;
        let description = vision::describe(title, &classification, &attributes, &defects);
        let findings = self.findings(classification, attributes, defects, &description, spent_ms);
        let (job_id, image_id) = (self.reporter.job_id, self.image.id);
        let also = also(move |conn| {
            let findings = findings.clone();
            async move {
                Analysis::complete(conn, job_id, image_id, findings).await?;
                Job::count_item(conn, job_id, false).await
            }
            .boxed()
        });
        self.reporter.complete(begun, &description, also).await?;
        Ok(())
    }

    /// Writes an image's failure down, or passes on what ends the attempt.
    async fn settle(&self, begun: Begun<'_>, step: AnalysisStep, trouble: Trouble) -> Result<Trouble, Trouble> {
        if let Trouble::Image(failure) = &trouble {
            let (job_id, image_id) = (self.reporter.job_id, self.image.id);
            let left = AnalysisStep::ALL.len() - 1 - step as usize;
            let message = failure.message.clone();
            let also = also(move |conn| {
                let message = message.clone();
                async move {
                    Analysis::fail(conn, job_id, image_id, &message).await?;
                    if step == AnalysisStep::Preprocess {
                        ProductImage::mark_unusable(conn, image_id).await?;
                    }
                    Job::count_item(conn, job_id, true).await
                }
                .boxed()
            });
            let skipped = u32::try_from(left).unwrap_or_default();
            self.reporter.fail(begun, &failure.message, skipped, also).await?;
        }
        Ok(trouble)
    }

    async fn photo(&self) -> Result<&Photo, Trouble> {
        let decode = async {
            let bytes = self.bytes().await?;
            self.engine.decode(bytes, ImageLimits::default()).await.map_err(Trouble::of)
        };
        self.photo.get_or_try_init(|| decode).await
    }

    async fn bytes(&self) -> Result<Bytes, Trouble> {
        let limit = ImageLimits::default().max_bytes;
        let missing = || Failure {
            code: "image_missing".to_owned(),
            message: "The uploaded file is no longer in the object store.".to_owned(),
        };
        let object = self.context.storage.get(&self.image.s3_key, limit).await.map_err(storage_failed)?;
        object.ok_or_else(|| Trouble::Image(missing()))
    }

    fn findings(
        &self,
        classification: Classification,
        attributes: Vec<Attribute>,
        defects: Vec<Defect>,
        description: &Description,
        processing_time_ms: i64,
    ) -> Findings {
        let defect = |found: Defect| models::Defect {
            // both are set when the analysis is written
            id: Uuid::nil(),
            analysis_id: Uuid::nil(),
            defect_type: found.defect_type,
            severity: match found.severity {
                vision::Severity::Low => models::Severity::Low,
                vision::Severity::Medium => models::Severity::Medium,
                vision::Severity::High => models::Severity::High,
            },
            confidence: found.confidence,
            x: f64::from(found.bounding_box.x),
            y: f64::from(found.bounding_box.y),
            width: f64::from(found.bounding_box.width),
            height: f64::from(found.bounding_box.height),
            description: found.description,
        };
        Findings {
            model_version: self.engine.model_version().to_owned(),
            label: classification.label,
            confidence: classification.confidence,
            scores: json!(classification.scores),
            description: description.text.clone(),
            description_model: description.model.clone(),
            processing_time_ms,
            attributes: attributes
                .into_iter()
                .map(|found| (found.attribute_name, found.attribute_value, found.confidence))
                .collect(),
            defects: defects.into_iter().map(defect).collect(),
        }
    }

    fn key(&self, step: AnalysisStep) -> StepKey<'static> {
        StepKey { item: self.image.id, name: step.as_str(), position: step as i16 }
    }
}

fn storage_failed(error: anyhow::Error) -> Trouble {
    Trouble::Attempt(Stop::retry("storage_unavailable", format!("The object store did not answer: {error:#}")))
}

/// A side of an image fits: there are at most 50 million pixels.
fn pixels(side: u32) -> i32 {
    i32::try_from(side).unwrap_or(i32::MAX)
}
