//! Enumerations in the API's documentation, taken from the lists that the code itself goes by.

use super::words;
use shared::{
    kind::{AnalysisStep, JobType},
    models::{
        AnalysisStatus, JobStatus, Missed, PipelineStatus, ProductStatus, ProjectPriority, ProjectStatus, Severity,
        UploadStatus,
    },
    pipeline::OperationType,
};
use utoipa::openapi::{
    ObjectBuilder,
    schema::{Object, SchemaType, Type},
};

pub(super) fn product_status() -> Object {
    words(ProductStatus::WORDS)
}

/// What a client may set; null is the same as nothing.
pub(crate) fn settable_status() -> Object {
    let settable = ProductStatus::ALL.iter().filter(|status| **status != ProductStatus::Processing);
    let words = settable.map(|status| Some(status.as_str())).chain([None]);
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])).enum_values(Some(words)).build()
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
    // the steps of an analysis are never skipped
    words(&["pending", "running", "completed", "failed"])
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

pub(crate) fn pipeline_status() -> Object {
    words(PipelineStatus::WORDS)
}

pub(crate) fn execution_status() -> Object {
    words(JobStatus::WORDS)
}

pub(crate) fn orchestration_status() -> Object {
    words(&["started", "running", "completed", "failed", "cancelled"])
}

pub(super) fn phase_status() -> Object {
    words(&["pending", "running", "completed", "failed", "cancelled"])
}

pub(super) fn operation_type() -> Object {
    words(OperationType::WORDS)
}

pub(super) fn operation_status() -> Object {
    words(&["pending", "completed", "failed"])
}

pub(crate) fn project_status() -> Object {
    words(ProjectStatus::WORDS)
}

pub(crate) fn project_priority() -> Object {
    words(ProjectPriority::WORDS)
}

pub(crate) fn missed() -> Object {
    words(Missed::WORDS)
}
