//! Enumerations in the API's documentation, taken from the lists that the code itself goes by.

use super::words;
use shared::{
    kind::{AnalysisStep, JobType},
    models::{AnalysisStatus, ProductStatus, Severity, StepStatus, UploadStatus},
};
use utoipa::openapi::schema::Object;

pub(crate) fn product_status() -> Object {
    words(ProductStatus::WORDS)
}

pub(super) fn upload_status() -> Object {
    words(UploadStatus::WORDS)
}

pub(super) fn analysis_status() -> Object {
    words(AnalysisStatus::WORDS)
}

pub(super) fn severity() -> Object {
    words(Severity::WORDS)
}

pub(super) fn step_status() -> Object {
    words(StepStatus::WORDS)
}

pub(super) fn step_name() -> Object {
    words(AnalysisStep::WORDS)
}

pub(crate) fn job_type() -> Object {
    words(JobType::WORDS)
}

pub(crate) fn job_status() -> Object {
    words(&super::job::STATUS_WORDS)
}
