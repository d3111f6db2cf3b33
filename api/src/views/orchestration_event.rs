//! The events of an orchestration as everybody who watches one gets them, by whichever way: the one place where a stored
//! event becomes a public one.

use super::{
    PublicEvent, Time,
    execution::{duration_ms, failure_code},
    execution_event::share,
};
use crate::error::Code;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{
    events::{Change, Event},
    models::{JobStatus, Orchestration, StepStatus, orchestration_word},
    orchestration::{phase_code, phase_of_step, plan},
    pipeline::OperationType,
};
use std::collections::HashMap;
use uuid::Uuid;

/// What events do not say themselves about the orchestration they belong to.
#[derive(Debug, Clone)]
pub(crate) struct AboutOrchestration {
    project_id: Uuid,
    phases: Vec<String>,
    /// By step.
    operations: HashMap<String, OperationType>,
    started_at: Option<DateTime<Utc>>,
}

impl AboutOrchestration {
    /// `started_at`: when its first attempt began, if it has.
    pub(crate) fn new(orchestration: &Orchestration, started_at: Option<DateTime<Utc>>) -> Self {
        let operations = plan(orchestration).into_iter();
        let operations = operations.filter_map(|planned| {
            let operation = planned.operation()?.operation_type();
            Some((planned.step, operation))
        });
        Self {
            project_id: orchestration.project_id,
            phases: orchestration.phases.clone(),
            operations: operations.collect(),
            started_at,
        }
    }

    /// The public form of the next event. An orchestration that starts while it is watched is remembered to have started.
    pub(crate) fn tell(&mut self, event: &Event) -> PublicEvent {
        let Event { job_id: id, seq, body } = event;
        let (seq, at) = (*seq, Time(body.at));
        let mut data = json!({
            "id": id, "seq": seq, "project_id": self.project_id, "phase": null,
            "status": orchestration_word(JobStatus::Running), "progress": share(body.progress),
            "message": null, "timestamp": at,
        });
        let mut set = |key: &str, value: Value| data[key] = value;
        let (name, is_last) = match &body.change {
            Change::JobStarted => {
                let started_at = *self.started_at.get_or_insert(body.at);
                set("started_at", json!(Time(started_at)));
                set("message", json!("Orchestration started"));
                ("orchestration:started", false)
            }
            Change::Log { level, step, message } => {
                set("phase", json!(step.as_deref().and_then(phase_of_step).map(phase_code)));
                set("level", json!(level));
                set("message", json!(message));
                ("orchestration:log", false)
            }
            Change::StepUpdate { step, status, data: said, .. } => {
                let phase = phase_of_step(step);
                let operation = self.operations.get(step).copied();
                let failed = operation.is_some() && !said["error"].is_null();
                let status = if failed { StepStatus::Failed } else { *status };
                set("phase", json!(phase.map(phase_code)));
                set("phase_name", json!(phase.and_then(|phase| self.phases.get(phase))));
                set("operation", json!(operation));
                set("status", json!(status));
                set("message", json!(self.message(phase, operation, status, said)));
                ("orchestration:progress", false)
            }
            Change::JobFinished { status: JobStatus::Completed, .. } => {
                set("status", json!(orchestration_word(JobStatus::Completed)));
                set("message", json!("Orchestration completed"));
                set("duration", json!(duration_ms(self.started_at, Some(body.at))));
                set("completed_at", json!(at));
                ("orchestration:completed", true)
            }
            Change::JobFinished { status, data: said } => {
                let error = error(*status, said);
                set("status", json!(orchestration_word(*status)));
                set("phase", error["phase"].clone());
                set("message", error["message"].clone());
                set("error", error);
                set("failed_at", json!(at));
                ("orchestration:failed", true)
            }
        };
        PublicEvent { name, seq, data, is_last }
    }

    /// A step in a sentence: its own, if it has one.
    fn message(
        &self,
        phase: Option<usize>,
        operation: Option<OperationType>,
        status: StepStatus,
        said: &Value,
    ) -> String {
        if let Some(own) = ["error_message", "message"].iter().find_map(|key| said[*key].as_str()) {
            return own.to_owned();
        }
        let name = phase.map(|phase| {
            let name = self.phases.get(phase).map(String::as_str).unwrap_or_default();
            format!("{}: {name}", phase_code(phase))
        });
        let subject = match (operation, name) {
            (Some(operation), Some(name)) => format!("{operation} of {name}"),
            (Some(operation), None) => operation.to_string(),
            (None, Some(name)) => name,
            (None, None) => "Orchestration".to_owned(),
        };
        format!("{subject} {status}")
    }
}

/// Why there is no result. A cancelled orchestration counts as failed here; its `status` tells the difference.
fn error(status: JobStatus, data: &Value) -> Value {
    let code = match status {
        JobStatus::Cancelled => Code::Conflict,
        JobStatus::Queued | JobStatus::Running | JobStatus::Completed | JobStatus::Failed => {
            failure_code(data["error_code"].as_str())
        }
    };
    let phase = data["result"]["node_id"].as_str().and_then(phase_of_step).map(phase_code);
    json!({ "code": code, "message": data["error_message"], "phase": phase })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::events::{EventBody, LogLevel, Progress};

    const AT: &str = "1970-01-01T00:00:00.000000Z";

    fn tell(change: Change) -> PublicEvent {
        let mut about = AboutOrchestration {
            project_id: Uuid::from_u128(7),
            phases: vec!["Ideation".to_owned(), "Review".to_owned()],
            operations: HashMap::from([("operation_1_file".to_owned(), OperationType::FileSystem)]),
            started_at: Some(DateTime::UNIX_EPOCH - chrono::TimeDelta::seconds(2)),
        };
        let body = EventBody { change, progress: Progress { completed: 1, total: 4 }, at: DateTime::UNIX_EPOCH };
        about.tell(&Event { job_id: Uuid::nil(), seq: 3, body })
    }

    fn step(step: &str, status: StepStatus, data: Value) -> PublicEvent {
        tell(Change::StepUpdate { item: None, step: step.to_owned(), status, data })
    }

    #[test]
    fn every_event_says_where_the_whole_stands() {
        let event = step("phase_1", StepStatus::Running, json!({}));
        let expected = json!({
            "id": Uuid::nil(), "seq": 3, "project_id": Uuid::from_u128(7), "phase": "Phase 1", "phase_name": "Review",
            "operation": null, "status": "running", "progress": 0.25, "message": "Phase 1: Review running",
            "timestamp": AT,
        });
        assert_eq!((event.name, event.seq, event.is_last, event.data), ("orchestration:progress", 3, false, expected));
        let event = tell(Change::JobStarted);
        assert_eq!(
            (event.name, &event.data["started_at"]),
            ("orchestration:started", &json!("1969-12-31T23:59:58.000000Z"))
        );
        let event =
            tell(Change::Log { level: LogLevel::Warn, step: Some("phase_0".to_owned()), message: "x".to_owned() });
        assert_eq!((event.name, &event.data["phase"]), ("orchestration:log", &json!("Phase 0")));
    }

    #[test]
    fn an_operation_that_failed_is_told_as_failed_though_the_run_goes_on() {
        let said = json!({ "message": "The file failed", "error": { "code": "integration_error" } });
        let event = step("operation_1_file", StepStatus::Completed, said);
        assert_eq!(event.data["status"], "failed");
        assert_eq!((&event.data["operation"], &event.data["phase"]), (&json!("file_system"), &json!("Phase 1")));
        let event = step("operation_1_file", StepStatus::Completed, json!({}));
        assert_eq!(event.data["message"], "file_system of Phase 1: Review completed");
    }

    #[test]
    fn an_end_is_the_last_event_and_says_which_end() {
        let event = tell(Change::JobFinished { status: JobStatus::Completed, data: json!({}) });
        assert_eq!((event.name, event.is_last), ("orchestration:completed", true));
        assert_eq!((&event.data["duration"], &event.data["status"]), (&json!(2000), &json!("completed")));
        let data = json!({ "error_code": "llm_timeout", "error_message": "slow", "result": { "node_id": "phase_1" } });
        let event = tell(Change::JobFinished { status: JobStatus::Failed, data });
        let error = json!({ "code": "AI_SERVICE_ERROR", "message": "slow", "phase": "Phase 1" });
        assert_eq!((event.name, &event.data["error"]), ("orchestration:failed", &error));
        let event = tell(Change::JobFinished { status: JobStatus::Cancelled, data: json!({ "error_message": "x" }) });
        assert_eq!((event.name, &event.data["status"]), ("orchestration:failed", &json!("cancelled")));
    }
}
