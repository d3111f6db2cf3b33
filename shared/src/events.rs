//! Events: ordered notices about a job. The row in `job_events` comes first, the publication second, so that a
//! listener who subscribes, reads the stored ones and then takes live ones with a higher `seq` misses nothing and
//! sees nothing twice.

use crate::{
    models::{JobStatus, LivePlace, LiveRun, StepStatus},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// One event as it is stored (without `job_id` and `seq`, which are columns) and published (whole).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The job it is about.
    pub job_id: Uuid,
    /// From 1, without gaps within a job.
    pub seq: i32,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBody {
    /// The change itself.
    #[serde(flatten)]
    pub change: Change,
    /// How far the job is.
    pub progress: Progress,
    /// When.
    pub at: DateTime<Utc>,
}

/// The change an event tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// The first attempt began. Told by those kinds whose listeners want to know.
    JobStarted,
    /// Something worth reading that changes no step.
    Log {
        /// How serious it is.
        level: LogLevel,
        /// The step it is about, where there is one.
        step: Option<String>,
        /// For people.
        message: String,
    },
    /// A step began or ended.
    StepUpdate {
        /// The unit it belongs to (an image), where there is one.
        item: Option<Uuid>,
        /// Name of the step.
        step: String,
        /// Its new status.
        status: StepStatus,
        /// The result of a completed step, `{"error_message"}` of a failed one.
        data: Value,
    },
    /// The job ended; nothing follows.
    JobFinished {
        /// How it ended.
        status: JobStatus,
        /// The job's result, `{"error_message"}` where it failed.
        data: Value,
    },
}

text_enum! {
    /// How serious a log line is.
    LogLevel {
        /// For whoever looks closely.
        Debug = "debug",
        /// As planned.
        Info = "info",
        /// Unusual, and dealt with.
        Warn = "warn",
        /// It went wrong.
        Error = "error",
    }
}

/// How much of a job is done, counted in steps over all its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that ended, or will not run any more.
    pub completed: u32,
    /// All steps.
    pub total: u32,
}

/// The channel on which the events of one job are published.
pub fn channel(prefix: &str, job_id: Uuid) -> String {
    format!("{prefix}:events:{job_id}")
}

/// The channel on which the tokens of one job are published as they come. They are not stored: the result is.
pub fn tokens_channel(prefix: &str, job_id: Uuid) -> String {
    format!("{prefix}:tokens:{job_id}")
}

/// A piece of text that a model has just said, published on the [`tokens_channel`].
///
/// Pieces of one attempt follow each other without gaps: `offset` is the length of all before. A listener that misses one
/// takes the rest from the stored result, which is the same text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The attempt of the job that says it. Another attempt begins at 0, and may say something else.
    pub attempt: i32,
    /// Bytes of UTF-8 before this piece.
    pub offset: usize,
    /// The piece.
    pub text: String,
}

/// Publishes stored events, in order and in one round trip. Whoever misses one finds it in the table.
pub fn announcement(prefix: &str, stored: &[Event]) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    for event in stored {
        if let Ok(message) = serde_json::to_string(event) {
            pipe.publish(channel(prefix, event.job_id), message).ignore();
        }
    }
    pipe
}

/// The channel on which the members of one organization hear of what they share.
pub fn organization_channel(prefix: &str, organization_id: Uuid) -> String {
    format!("{prefix}:organization:{organization_id}")
}

/// A notice to the members of an organization, published on the [`organization_channel`]. It is not stored: whoever misses
/// one sees the change when it looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// `pipeline:updated` for example.
    pub r#type: String,
    /// What there is to say.
    pub data: Value,
}

impl Notice {
    /// Says among the processes of the API that a run was accepted: whoever has watchers of it begins to follow its events.
    /// Watchers are not told; they hear of its start.
    pub fn accepted(run: &LiveRun) -> Self {
        let (r#type, place) = match run.place {
            LivePlace::Pipeline(id) => (EXECUTION_ACCEPTED, id),
            LivePlace::Project(id) => (ORCHESTRATION_ACCEPTED, id),
        };
        let data = json!({ "id": run.id, "place": place, "user_id": run.user_id });
        Self { r#type: r#type.to_owned(), data }
    }

    /// The run that was accepted, if this says so.
    pub fn accepted_run(&self, organization_id: Uuid) -> Option<LiveRun> {
        let id = |key: &str| self.data[key].as_str()?.parse().ok();
        let place = match self.r#type.as_str() {
            EXECUTION_ACCEPTED => LivePlace::Pipeline(id("place")?),
            ORCHESTRATION_ACCEPTED => LivePlace::Project(id("place")?),
            _ => return None,
        };
        let (id, user_id) = (id("id")?, id("user_id")?);
        Some(LiveRun { id, organization_id, user_id, place, started_at: None, finished_at: None })
    }
}

/// Names of notices that are for processes alone.
const EXECUTION_ACCEPTED: &str = "execution:accepted";
const ORCHESTRATION_ACCEPTED: &str = "orchestration:accepted";

/// Publishes notices to one organization each, in one round trip.
pub fn notices<'a>(prefix: &str, notices: impl IntoIterator<Item = (Uuid, &'a Notice)>) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    for (organization_id, notice) in notices {
        if let Ok(message) = serde_json::to_string(notice) {
            pipe.publish(organization_channel(prefix, organization_id), message).ignore();
        }
    }
    pipe
}

/// The channel on which every worker of an installation hears of cancelled jobs; the message is the job id.
pub fn cancel_channel(prefix: &str) -> String {
    format!("{prefix}:cancel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_of_an_accepted_run_knows_where_it_belongs() {
        for place in [LivePlace::Pipeline(Uuid::from_u128(3)), LivePlace::Project(Uuid::from_u128(3))] {
            let (id, user_id, organization_id) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(4));
            let run = LiveRun { id, organization_id, user_id, place, started_at: None, finished_at: None };
            let heard =
                Notice::accepted(&run).accepted_run(organization_id).map(|run| (run.id, run.user_id, run.place));
            assert_eq!(heard, Some((id, user_id, place)));
        }
        let other = Notice { r#type: "pipeline:created".to_owned(), data: json!({ "id": Uuid::nil() }) };
        assert!(other.accepted_run(Uuid::nil()).is_none());
    }
}
