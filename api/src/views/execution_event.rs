//! The events of an execution as everybody who watches one gets them, by whichever way: the one place where a stored event
//! becomes a public one.

use super::{
    Time,
    execution::{duration_ms, failure_code, step_message},
};
use crate::error::Code;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{
    events::{Change, Event, Progress},
    models::{Execution, Job, JobStatus},
};
use uuid::Uuid;

/// What events do not say themselves about the execution they belong to.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pipeline_id: Uuid,
    started_at: Option<DateTime<Utc>>,
}

/// An event with its public name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublicEvent {
    /// `execution:progress` for example.
    pub(crate) name: &'static str,
    /// Its place, from 1, without gaps.
    pub(crate) seq: i32,
    /// What it says; always an object.
    pub(crate) data: Value,
    /// Nothing follows.
    pub(crate) is_last: bool,
}

impl About {
    pub(crate) const fn new(execution: &Execution, job: &Job) -> Self {
        Self { pipeline_id: execution.pipeline_id, started_at: job.started_at }
    }

    /// What is known of an execution without reading its rows.
    pub(crate) const fn with(pipeline_id: Uuid, started_at: Option<DateTime<Utc>>) -> Self {
        Self { pipeline_id, started_at }
    }

    /// The public form of the next event. An execution that starts while it is watched is remembered to have started.
    pub(crate) fn tell(&mut self, event: &Event) -> PublicEvent {
        let Event { job_id: id, seq, body } = event;
        let (seq, at) = (*seq, Time(body.at));
        let (name, data) = match &body.change {
            Change::JobStarted => {
                let started_at = *self.started_at.get_or_insert(body.at);
                let data = json!({
                    "id": id, "seq": seq, "pipeline_id": self.pipeline_id, "started_at": Time(started_at),
                });
                ("execution:started", data)
            }
            Change::Log { level, step, message } => {
                let data = json!({
                    "id": id, "seq": seq, "node_id": step, "level": level, "message": message, "timestamp": at,
                });
                ("execution:log", data)
            }
            Change::StepUpdate { step, status, data, .. } => {
                let data = json!({
                    "id": id, "seq": seq, "node_id": step, "status": status, "progress": share(body.progress),
                    "message": step_message(step, *status, data), "timestamp": at,
                });
                ("execution:progress", data)
            }
            Change::JobFinished { status: JobStatus::Completed, .. } => {
                let duration = duration_ms(self.started_at, Some(body.at));
                let data = json!({
                    "id": id, "seq": seq, "status": JobStatus::Completed, "duration": duration, "completed_at": at,
                });
                return PublicEvent { name: "execution:completed", seq, data, is_last: true };
            }
            Change::JobFinished { status, data } => {
                let data = json!({
                    "id": id, "seq": seq, "status": status, "error": error(*status, data), "failed_at": at,
                });
                return PublicEvent { name: "execution:failed", seq, data, is_last: true };
            }
        };
        PublicEvent { name, seq, data, is_last: false }
    }
}

/// Why there is no result. A cancelled execution counts as failed here; its `status` tells the difference.
fn error(status: JobStatus, data: &Value) -> Value {
    let code = match status {
        JobStatus::Cancelled => Code::Conflict,
        JobStatus::Queued | JobStatus::Running | JobStatus::Completed | JobStatus::Failed => {
            failure_code(data["error_code"].as_str())
        }
    };
    json!({ "code": code, "message": data["error_message"], "node_id": data["result"]["node_id"] })
}

/// How far a job is, from 0 to 1.
pub(super) fn share(progress: Progress) -> f64 {
    if progress.total == 0 { 0.0 } else { f64::from(progress.completed) / f64::from(progress.total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        events::{EventBody, LogLevel},
        models::StepStatus,
    };

    fn tell(change: Change) -> PublicEvent {
        let mut about = About {
            pipeline_id: Uuid::from_u128(7),
            started_at: Some(DateTime::UNIX_EPOCH - chrono::TimeDelta::seconds(2)),
        };
        let body = EventBody { change, progress: Progress { completed: 1, total: 4 }, at: DateTime::UNIX_EPOCH };
        about.tell(&Event { job_id: Uuid::nil(), seq: 3, body })
    }

    const AT: &str = "1970-01-01T00:00:00.000000Z";

    #[test]
    fn a_start_names_the_pipeline() {
        let event = tell(Change::JobStarted);
        assert_eq!((event.name, event.seq, event.is_last), ("execution:started", 3, false));
        let expected = json!({
            "id": Uuid::nil(), "seq": 3, "pipeline_id": Uuid::from_u128(7), "started_at": "1969-12-31T23:59:58.000000Z",
        });
        assert_eq!(event.data, expected);
    }

    #[test]
    fn a_node_tells_how_far_the_whole_is() {
        let (step, status, data) = ("a".to_owned(), StepStatus::Completed, json!({}));
        let event = tell(Change::StepUpdate { item: None, step, status, data });
        assert_eq!(event.name, "execution:progress");
        let expected = json!({
            "id": Uuid::nil(), "seq": 3, "node_id": "a", "status": "completed", "progress": 0.25,
            "message": "Node a completed", "timestamp": AT,
        });
        assert_eq!(event.data, expected);
    }

    #[test]
    fn a_remark_keeps_its_level_and_its_node() {
        let event =
            tell(Change::Log { level: LogLevel::Warn, step: Some("a".to_owned()), message: "again".to_owned() });
        assert_eq!(event.name, "execution:log");
        assert_eq!((&event.data["level"], &event.data["node_id"]), (&json!("warn"), &json!("a")));
    }

    #[test]
    fn an_end_is_the_last_event_and_says_which_end() {
        let event = tell(Change::JobFinished { status: JobStatus::Completed, data: json!({}) });
        let expected = json!({
            "id": Uuid::nil(), "seq": 3, "status": "completed", "duration": 2000, "completed_at": AT,
        });
        assert_eq!((event.name, event.is_last, event.data), ("execution:completed", true, expected));

        let data = json!({ "error_code": "llm_timeout", "error_message": "slow", "result": { "node_id": "a" } });
        let event = tell(Change::JobFinished { status: JobStatus::Failed, data });
        let error = json!({ "code": "AI_SERVICE_ERROR", "message": "slow", "node_id": "a" });
        assert_eq!((event.name, event.is_last, &event.data["error"]), ("execution:failed", true, &error));

        let event = tell(Change::JobFinished { status: JobStatus::Cancelled, data: json!({ "error_message": "x" }) });
        assert_eq!((event.name, &event.data["status"]), ("execution:failed", &json!("cancelled")));
        assert_eq!(event.data["error"]["node_id"], Value::Null);
    }
}
