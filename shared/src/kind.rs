//! The kinds of job. A new kind starts here: add a variant, then follow the compiler.

use crate::text_enum::text_enum;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

text_enum! {
    /// What a job does; its word is stored, so it never changes.
    Kind {
        /// Runs the models over one or many product images.
        ImageAnalysis = "image_analysis",
        /// Passes through every stage and does nothing else: the queue is tested and measured with it.
        Probe = "probe",
    }
}

impl Kind {
    /// The queue whose workers run this kind.
    pub const fn queue(self) -> &'static str {
        match self {
            Self::ImageAnalysis => "images",
            Self::Probe => "probes",
        }
    }

    /// Every queue, once.
    pub fn queues() -> Vec<&'static str> {
        let mut queues: Vec<_> = Self::ALL.iter().map(|kind| kind.queue()).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}

/// What a job of each kind is told. Ids, not bodies: the handler loads the rest when it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Payload {
    /// Of [`Kind::ImageAnalysis`].
    ImageAnalysis(ImageAnalysis),
    /// Of [`Kind::Probe`].
    Probe(Probe),
}

impl Payload {
    /// The kind that this payload belongs to.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ImageAnalysis(_) => Kind::ImageAnalysis,
            Self::Probe(_) => Kind::Probe,
        }
    }

    /// How urgent a job with this payload is.
    pub const fn priority(&self) -> Priority {
        match self {
            Self::ImageAnalysis(ImageAnalysis { job_type: JobType::Batch, .. }) => Priority::Bulk,
            Self::ImageAnalysis(_) | Self::Probe(_) => Priority::Default,
        }
    }
}

text_enum! {
    /// How an image analysis came about; clients see it as `job_type`.
    JobType {
        /// One uploaded image.
        Single = "single",
        /// Several images of one product.
        Batch = "batch",
        /// One image again.
        Retry = "retry",
    }
}

text_enum! {
    /// The steps of an image analysis, in order, each run for each image.
    AnalysisStep {
        /// Decodes the file, notes what it is, stores its thumbnail.
        Preprocess = "preprocess",
        /// Finds the product category.
        Classify = "classify",
        /// Reads colours and other attributes.
        ExtractAttributes = "extract_attributes",
        /// Finds visible damage.
        DetectDefects = "detect_defects",
        /// Puts the others' results into words.
        Describe = "describe",
    }
}

/// Which images to analyse; the ids are in `job_images`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageAnalysis {
    /// Why it was started.
    pub job_type: JobType,
    /// The product that the images belong to.
    pub product_id: Uuid,
}

/// A job that does nothing, in a chosen shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// How many steps are recorded, at most 100.
    #[serde(default)]
    pub steps: u16,
    /// How long each step (or, without steps, the whole job) lasts, in milliseconds, at most 60,000.
    #[serde(default)]
    pub hold_ms: u64,
}

text_enum! {
    /// Classes of jobs. As long as a job of an earlier class waits, none of a later class is claimed.
    #[derive(Default)]
    Priority {
        /// Somebody waits for the answer.
        Interactive = "interactive",
        /// Everything that says nothing else.
        #[default]
        Default = "default",
        /// Work nobody waits for.
        Bulk = "bulk",
    }
}
