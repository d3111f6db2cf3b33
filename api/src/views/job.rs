//! An image analysis as its owner sees it: the job, with one row for each of the five steps from the moment it exists.

use super::{Time, word_lists};
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    kind::{AnalysisStep, ImageAnalysis, JobType, Payload},
    models::{Job, JobStatus, StepStatus, StepSum},
};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// A job's status in the words that clients know, in the order of the stored ones.
pub(super) const STATUS_WORDS: [&str; 5] = ["queued", "processing", "completed", "failed", "cancelled"];

/// An image analysis: a job with its steps.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    id: Uuid,
    user_id: Uuid,
    #[schema(schema_with = word_lists::job_type)]
    job_type: JobType,
    #[schema(schema_with = word_lists::job_status)]
    status: &'static str,
    total_images: i32,
    /// Images that were analysed.
    processed_images: i32,
    /// Images that could not be analysed.
    failed_images: i32,
    /// The same as `id`.
    task_id: Uuid,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    completed_at: Option<Time>,
    #[schema(required)]
    error_message: Option<String>,
    steps: Vec<StepView>,
    created_at: Time,
    updated_at: Time,
}

/// A step, summed up over the images of its job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobStep)]
pub(crate) struct StepView {
    id: Uuid,
    #[schema(schema_with = word_lists::step_name)]
    step_name: &'static str,
    /// `running` from the first image's beginning to the last one's end; then `failed` if it failed for any image.
    #[schema(schema_with = word_lists::step_status)]
    status: StepStatus,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    completed_at: Option<Time>,
    /// Milliseconds spent over all images.
    #[schema(required)]
    duration_ms: Option<i64>,
    #[schema(required)]
    error_message: Option<String>,
    /// What the step found; with several images `{"images": {image id: what it found}}`.
    #[schema(value_type = Object)]
    result_data: Value,
}

impl JobView {
    /// Loads the steps of these jobs, one query for any number, in the order given.
    pub(crate) async fn load(conn: &mut AsyncPgConnection, jobs: Vec<Job>) -> diesel::QueryResult<Vec<Self>> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
        let mut sums: HashMap<Uuid, Vec<StepSum>> = HashMap::new();
        for sum in StepSum::list_of_jobs(conn, &ids).await? {
            sums.entry(sum.job_id).or_default().push(sum);
        }
        Ok(jobs
            .into_iter()
            .map(|job| {
                let sums = sums.remove(&job.id).unwrap_or_default();
                Self::new(job, sums)
            })
            .collect())
    }

    /// One job and its summed steps.
    pub(crate) fn new(job: Job, mut sums: Vec<StepSum>) -> Self {
        let steps = AnalysisStep::WORDS
            .iter()
            .map(|&name| {
                let sum = sums.iter().position(|sum| sum.name == name).map(|at| sums.swap_remove(at));
                StepView::new(&job, name, sum)
            })
            .collect();
        Self {
            id: job.id,
            user_id: job.user_id,
            job_type: job_type(&job),
            status: status_word(job.status),
            total_images: job.items_total,
            processed_images: job.items_done,
            failed_images: job.items_failed,
            task_id: job.id,
            started_at: job.started_at.map(Time),
            completed_at: job.finished_at.map(Time),
            error_message: job.error_message,
            steps,
            created_at: job.created_at.into(),
            updated_at: job.updated_at.into(),
        }
    }
}

impl StepView {
    fn new(job: &Job, name: &'static str, sum: Option<StepSum>) -> Self {
        // a step is named by its job and name; the row ids of the single images would be five times as many
        let id = Uuid::new_v5(&job.id, name.as_bytes());
        let Some(sum) = sum else {
            return Self {
                id,
                step_name: name,
                status: StepStatus::Pending,
                started_at: None,
                completed_at: None,
                duration_ms: None,
                error_message: None,
                result_data: result_data(job, StepStatus::Pending, None),
            };
        };
        let status = sum.status(job.status.is_final());
        let ended = matches!(status, StepStatus::Completed | StepStatus::Failed | StepStatus::Skipped);
        let error_message = sum.error_message.filter(|_| ended).map(|message| match job.items_total {
            ..=1 => message,
            total => format!("{} of {total} images failed, the first because: {message}", sum.failed),
        });
        Self {
            id,
            step_name: name,
            status,
            started_at: sum.started_at.map(Time),
            completed_at: sum.completed_at.filter(|_| ended).map(Time),
            duration_ms: sum.duration_ms.filter(|_| ended),
            error_message,
            result_data: result_data(job, status, sum.results),
        }
    }
}

/// The result itself for one image, one entry for each image otherwise.
fn result_data(job: &Job, status: StepStatus, results: Option<Value>) -> Value {
    let images = match results {
        Some(Value::Object(images)) => images,
        Some(_) | None => Map::new(),
    };
    match (job.items_total, status) {
        (..=1, StepStatus::Completed) => images.into_iter().next().map_or_else(|| json!({}), |(_, result)| result),
        (..=1, StepStatus::Pending | StepStatus::Running | StepStatus::Failed | StepStatus::Skipped) => json!({}),
        (_, _) => json!({ "images": images }),
    }
}

/// Why the analysis was started. A payload that cannot be read any more, after a change of its form, counts as the
/// usual case rather than making a whole list unreadable.
fn job_type(job: &Job) -> JobType {
    match job.payload() {
        Ok(Payload::ImageAnalysis(ImageAnalysis { job_type, .. })) => job_type,
        Ok(
            Payload::BatchShare(_)
            | Payload::PipelineRun(_)
            | Payload::Orchestration(_)
            | Payload::ChatCompletion(_)
            | Payload::TextGeneration(_)
            | Payload::WebhookDelivery(_)
            | Payload::Mail(_)
            | Payload::Probe(_),
        )
        | Err(_) => JobType::Single,
    }
}

/// The word that clients know.
pub(crate) const fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "queued",
        JobStatus::Running => "processing",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use shared::kind::{Kind, Priority};

    fn job(items_total: i32, status: JobStatus) -> Job {
        let at = Utc::now();
        Job {
            id: Uuid::from_u128(7),
            kind: Kind::ImageAnalysis,
            queue: "images".to_owned(),
            status,
            priority: Priority::Default,
            organization_id: Uuid::nil(),
            weight: 1,
            user_id: Uuid::nil(),
            payload: json!({ "kind": "image_analysis", "job_type": "batch", "product_id": Uuid::nil() }),
            result: None,
            error_code: None,
            error_message: None,
            errors: json!([]),
            attempt: 1,
            forgiven: 0,
            max_attempts: 5,
            crashes: 0,
            run_at: at,
            worker: None,
            heartbeat_at: None,
            cancel_requested: false,
            last_seq: 0,
            items_total,
            items_done: 0,
            items_failed: 0,
            trace_context: None,
            created_at: at,
            updated_at: at,
            started_at: None,
            finished_at: None,
        }
    }

    fn sum(name: &str, completed: i64, failed: i64, results: Value) -> StepSum {
        StepSum {
            job_id: Uuid::from_u128(7),
            name: name.to_owned(),
            position: 0,
            pending: 0,
            running: 0,
            completed,
            failed,
            started_at: Some(Utc::now()),
            completed_at: Some(Utc::now()),
            duration_ms: Some(12),
            error_message: (failed > 0).then(|| "not an image".to_owned()),
            results: Some(results),
        }
    }

    #[test]
    fn a_job_has_all_five_steps_in_order_before_any_has_begun() {
        let view = JobView::new(job(1, JobStatus::Queued), Vec::new());
        assert_eq!(view.steps.iter().map(|step| step.step_name).collect::<Vec<_>>(), AnalysisStep::WORDS);
        assert!(view.steps.iter().all(|step| step.status == StepStatus::Pending && step.result_data == json!({})));
        assert_eq!(view.job_type, JobType::Batch);
    }

    #[test]
    fn a_running_job_is_called_processing() {
        assert_eq!(JobView::new(job(1, JobStatus::Running), Vec::new()).status, "processing");
    }

    #[test]
    fn the_documented_words_are_those_shown() {
        assert_eq!(JobStatus::ALL.iter().map(|status| status_word(*status)).collect::<Vec<_>>(), STATUS_WORDS);
    }

    #[test]
    fn step_ids_are_stable_and_differ() {
        let ids = |view: JobView| view.steps.into_iter().map(|step| step.id).collect::<std::collections::BTreeSet<_>>();
        let first = ids(JobView::new(job(1, JobStatus::Queued), Vec::new()));
        assert_eq!(first.len(), 5);
        assert_eq!(first, ids(JobView::new(job(1, JobStatus::Running), Vec::new())));
    }

    #[test]
    fn one_image_shows_its_result_and_several_show_one_each() {
        let results = json!({ "00000000-0000-0000-0000-000000000001": { "width": 5 } });
        let one = JobView::new(job(1, JobStatus::Running), vec![sum("preprocess", 1, 0, results)]);
        assert_eq!(one.steps[0].result_data, json!({ "width": 5 }));
        let results = json!({ "a": { "width": 5 }, "b": { "error_message": "not an image" } });
        let two = JobView::new(job(2, JobStatus::Running), vec![sum("preprocess", 1, 1, results)]);
        assert_eq!(two.steps[0].result_data["images"]["a"], json!({ "width": 5 }));
        assert_eq!(two.steps[0].status, StepStatus::Failed);
        assert_eq!(
            two.steps[0].error_message.as_deref(),
            Some("1 of 2 images failed, the first because: not an image")
        );
    }
}
