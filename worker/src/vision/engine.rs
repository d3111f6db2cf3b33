//! The only way from the async side to the models.
//!
//! Decoding and inference take milliseconds to seconds of pure CPU, so they never run on the async threads. The engine keeps
//! a fixed number of threads, each with its own loaded and warmed models: a session is used by one thread at a time, and one
//! photo a thread is faster than several threads a photo.

use bytes::Bytes;
use thiserror::Error;

use super::attributes::{self, Attribute};
use super::classify::{Classification, Classifier};
use super::decode::{ImageLimits, decode};
use super::defects::{Defect, Detector};
use super::error::VisionError;
use super::pool::{Lost, Pool};
use super::preprocess::{Photo, Preprocessed, preprocess};
use super::registry::Registry;
use super::runtime::Runtime;

/// The loaded models of one thread.
struct Models {
    classifier: Classifier,
    detector: Detector,
}

/// A handle on the vision threads; share it in an `Arc`. Dropping it ends them after the work in progress.
#[derive(Debug)]
pub struct Engine {
    pool: Pool<Models>,
    model_version: String,
}

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A thread could not be started.
    #[error("cannot start a vision thread: {0}")]
    Thread(String),
    /// A model cannot be opened.
    #[error("cannot open the models of `{model_version}`: {source}. Check their entries in models.toml.")]
    Open {
        /// The models.
        model_version: String,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
    /// A model cannot be run.
    #[error("the models of `{model_version}` do not work: {source}")]
    Warm {
        /// The models.
        model_version: String,
        /// What happened.
        source: VisionError,
    },
}

impl Engine {
    /// Starts `threads` threads (at least one) and returns once each has loaded its models and run them.
    ///
    /// # Errors
    /// When a thread cannot be started or a model cannot be opened or run.
    pub async fn start(runtime: &Runtime, registry: &Registry, threads: usize) -> Result<Self, EngineError> {
        let model_version = registry.model_version();
        let (runtime, registry) = (runtime.clone(), registry.clone());
        let load = move || load(&runtime, &registry);
        let pool = Pool::start("vision", threads.max(1), load, EngineError::Thread).await?;
        Ok(Self { pool, model_version })
    }

    /// Names and versions of the models in use, as stored with each analysis.
    #[must_use]
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// Decodes an uploaded file and makes its thumbnail; see [`preprocess`].
    ///
    /// # Errors
    /// When the file is not an acceptable photo, or the step broke.
    pub async fn preprocess(
        &self,
        bytes: Bytes,
        declared_content_type: String,
        limits: ImageLimits,
    ) -> Result<Preprocessed, VisionError> {
        self.run(move |_| Ok(preprocess(&bytes, &declared_content_type, &limits)?)).await
    }

    /// Decodes a file again, for a job that goes on after its first step; see [`decode`].
    ///
    /// # Errors
    /// When the file is not an acceptable photo, or the step broke.
    pub async fn decode(&self, bytes: Bytes, limits: ImageLimits) -> Result<Photo, VisionError> {
        self.run(move |_| Ok(Photo::new(decode(&bytes, &limits)?.image))).await
    }

    /// Finds the product category.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub async fn classify(&self, photo: &Photo) -> Result<Classification, VisionError> {
        let photo = Photo::clone(photo);
        self.run(move |models| models.classifier.classify(&photo)).await
    }

    /// Reads colours and other attributes; `color` is always among them.
    ///
    /// # Errors
    /// When the step broke.
    pub async fn extract_attributes(
        &self,
        photo: &Photo,
        classification: &Classification,
    ) -> Result<Vec<Attribute>, VisionError> {
        let (photo, classification) = (Photo::clone(photo), classification.clone());
        self.run(move |_| Ok(attributes::extract(&photo, &classification))).await
    }

    /// Finds visible damage, surest first.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub async fn detect_defects(&self, photo: &Photo) -> Result<Vec<Defect>, VisionError> {
        let photo = Photo::clone(photo);
        self.run(move |models| models.detector.detect(&photo)).await
    }

    /// Takes no more work, and returns when every thread has ended. Call it before the process exits: a thread inside ONNX
    /// Runtime while the library is unloaded can bring the process down.
    pub async fn stop(self) {
        self.pool.stop().await;
    }

    async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Models) -> Result<T, VisionError> + Send + 'static,
    ) -> Result<T, VisionError> {
        self.pool.run(step).await.map_err(|lost| match lost {
            Lost::Panicked(text) => VisionError::Panicked(text),
            Lost::Stopped => VisionError::Stopped,
        })?
    }
}

/// Opens the models and runs each once: the first run allocates and is several times slower.
fn load(runtime: &Runtime, registry: &Registry) -> Result<Models, EngineError> {
    let model_version = registry.model_version();
    let open_error = |source| EngineError::Open { model_version: model_version.clone(), source };
    let warm_error = |source| EngineError::Warm { model_version: model_version.clone(), source };
    let mut classifier = Classifier::open(runtime, registry.classifier.clone()).map_err(open_error)?;
    let mut detector = Detector::open(runtime, registry.detector.clone()).map_err(open_error)?;
    let photo = image::RgbImage::from_pixel(320, 240, image::Rgb([127, 127, 127]));
    classifier.classify(&photo).map_err(warm_error)?;
    detector.detect(&photo).map_err(warm_error)?;
    Ok(Models { classifier, detector })
}
