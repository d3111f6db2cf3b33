//! What an orchestration has done outside of models.

use super::{
    image::URL_VALID,
    word_lists::{operation_status, operation_type},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    models::{File, JobStatus, JobStep, Orchestration, StepStatus},
    orchestration::phase_code,
    pipeline::Integration,
    storage::Storage,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Something that was done outside of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IntegrationOperation {
    id: Uuid,
    #[schema(schema_with = operation_type)]
    operation_type: &'static str,
    #[schema(schema_with = operation_status)]
    status: &'static str,
    /// `success` and `message`; of a file also `file_id`, `filename`, `size` and a signed `url`, of a commit `commit`,
    /// `branch` and `filename`, of a deployment `response_status`.
    #[schema(value_type = Object)]
    result: Map<String, Value>,
    execution_time_ms: i64,
    /// The phase that it belongs to; null: it follows the last one.
    #[schema(required)]
    phase_code: Option<String>,
}

impl IntegrationOperation {
    /// `None`: it will not be done any more.
    pub(super) async fn new(
        orchestration: &Orchestration,
        of_job: JobStatus,
        (integration, name): (&Integration, &str),
        step: Option<&JobStep>,
        files: &[File],
        storage: &Storage,
    ) -> anyhow::Result<Option<Self>> {
        let failed = |message: &str| json!({ "success": false, "message": format!("INTEGRATION_ERROR: {message}") });
        let (status, result) = match step.map_or(StepStatus::Pending, |step| step.status) {
            StepStatus::Pending | StepStatus::Running | StepStatus::Skipped if of_job.is_final() => return Ok(None),
            StepStatus::Pending | StepStatus::Running | StepStatus::Skipped => {
                ("pending", json!({ "success": false, "message": "It is not done yet." }))
            }
            StepStatus::Failed => {
                let message = step.and_then(|step| step.error_message.as_deref()).unwrap_or("It was not done.");
                ("failed", failed(message))
            }
            StepStatus::Completed => {
                let found = step.map_or(&Value::Null, |step| &step.result);
                match found["error"]["message"].as_str() {
                    Some(message) => ("failed", failed(message)),
                    None => ("completed", done(found, step.and_then(file_id), files, storage).await?),
                }
            }
        };
        Ok(Some(Self {
            id: Uuid::new_v5(&orchestration.id, name.as_bytes()),
            operation_type: integration.operation_type().as_str(),
            status,
            result: result.as_object().cloned().unwrap_or_default(),
            execution_time_ms: step.and_then(|step| step.duration_ms).unwrap_or_default(),
            phase_code: integration.phase().map(phase_code),
        }))
    }
}

/// The result of an operation that was done. A file that was deleted since has no URL.
async fn done(found: &Value, file: Option<Uuid>, files: &[File], storage: &Storage) -> anyhow::Result<Value> {
    let mut result = json!({ "success": true, "message": found["text"] });
    if let (Some(result), Some(facts)) = (result.as_object_mut(), found["json"].as_object()) {
        result.extend(facts.clone());
    }
    if let Some(id) = file {
        result["url"] = match files.iter().find(|file| file.id == id) {
            Some(file) => json!(storage.presign_get(&file.s3_key, URL_VALID).await?),
            None => Value::Null,
        };
    }
    Ok(result)
}

/// The file that a step has written.
pub(super) fn file_id(step: &JobStep) -> Option<Uuid> {
    step.result.get("json")?.get("file_id")?.as_str()?.parse().ok()
}
