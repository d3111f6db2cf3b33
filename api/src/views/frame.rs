//! What `/ws/processing/{job_id}` sends: one frame an event.

use super::Time;
use serde::Serialize;
use serde_json::Value;
use shared::{
    events::{Change, Event, Progress},
    models::JobStatus,
};
use uuid::Uuid;

/// One event of an image analysis, as its owner's socket shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Frame<'a> {
    r#type: &'static str,
    seq: i32,
    job_id: Uuid,
    image_id: Option<Uuid>,
    step: Option<&'a str>,
    status: &'static str,
    progress: Progress,
    data: &'a Value,
    timestamp: Time,
}

impl Frame<'_> {
    /// Nothing follows this frame.
    pub(crate) fn is_last(event: &Event) -> bool {
        matches!(event.body.change, Change::JobFinished { .. })
    }
}

impl<'a> Frame<'a> {
    /// The frame of an event; none where analyses have no such event.
    pub(crate) fn new(event: &'a Event) -> Option<Self> {
        let (r#type, image_id, step, status, data) = match &event.body.change {
            Change::StepUpdate { item, step, status, data } => {
                ("step_update", *item, Some(step.as_str()), status.as_str(), data)
            }
            Change::JobFinished { status, data } => (last_type(*status), None, None, status.as_str(), data),
            Change::JobStarted | Change::Log { .. } => return None,
        };
        Some(Self {
            r#type,
            seq: event.seq,
            job_id: event.job_id,
            image_id,
            step,
            status,
            progress: event.body.progress,
            data,
            timestamp: Time(event.body.at),
        })
    }
}

/// A cancelled job counts as failed here; its `status` tells the difference.
const fn last_type(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Completed => "job_complete",
        JobStatus::Queued | JobStatus::Running | JobStatus::Failed | JobStatus::Cancelled => "job_failed",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use chrono::DateTime;
    use serde_json::json;
    use shared::{events::EventBody, models::StepStatus};

    fn frame(change: Change) -> Value {
        let at = DateTime::UNIX_EPOCH;
        let body = EventBody { change, progress: Progress { completed: 1, total: 5 }, at };
        serde_json::to_value(Frame::new(&Event { job_id: Uuid::nil(), seq: 3, body })).unwrap()
    }

    #[test]
    fn a_step_names_its_image_and_its_status() {
        let change = Change::StepUpdate {
            item: Some(Uuid::from_u128(1)),
            step: "classify".to_owned(),
            status: StepStatus::Completed,
            data: json!({ "classification_label": "mug" }),
        };
        assert_eq!(
            frame(change),
            json!({
                "type": "step_update", "seq": 3, "job_id": Uuid::nil(), "image_id": Uuid::from_u128(1),
                "step": "classify", "status": "completed", "progress": { "completed": 1, "total": 5 },
                "data": { "classification_label": "mug" }, "timestamp": "1970-01-01T00:00:00.000000Z",
            })
        );
    }

    #[test]
    fn the_last_frame_names_no_image_and_tells_how_the_job_ended() {
        for (status, word) in [
            (JobStatus::Completed, "job_complete"),
            (JobStatus::Failed, "job_failed"),
            (JobStatus::Cancelled, "job_failed"),
        ] {
            let frame = frame(Change::JobFinished { status, data: json!({}) });
            assert_eq!(frame["type"], word);
            assert_eq!(frame["status"], status.as_str());
            assert_eq!((&frame["image_id"], &frame["step"]), (&Value::Null, &Value::Null));
        }
    }
}
