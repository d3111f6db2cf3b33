//! How things look from outside, where several handlers answer with the same one; what only one handler uses is defined
//! beside it.

mod account;
mod analysis;
pub(crate) mod analytics;
mod api_key;
mod completion;
mod execution;
mod execution_event;
mod file;
mod frame;
mod image;
mod integration_operation;
mod job;
mod orchestration;
mod orchestration_event;
mod orchestration_phase;
mod orchestration_plan;
mod organization;
mod pipeline;
mod product;
mod project;
mod schedule;
mod template;
mod usage;
mod webhook;
mod word_lists;

pub(crate) use account::{AuthUser, Message, Quota, TokenSet, UserView, role, username_rule};
pub(crate) use analysis::AnalysisView;
pub(crate) use api_key::{ApiKeyView, MadeKey};
pub(crate) use completion::{
    Answer, ChatChoice, ChatChunk, ChunkChoice, Delta, ModelResult, TextChoice, TokenUsage, speaker,
};
pub(crate) use execution::{ExecutionSummary, ExecutionView, duration_ms, failed_node, failure_code, results};
pub(crate) use execution_event::{About, PublicEvent};
pub(crate) use file::FileView;
pub(crate) use frame::Frame;
pub(crate) use image::{ImageView, URL_VALID};
pub(crate) use job::{JobView, status_word};
pub(crate) use orchestration::{OrchestrationSummary, OrchestrationView};
pub(crate) use orchestration_event::AboutOrchestration;
pub(crate) use orchestration_plan::{PlannedPhase, planned_phases};
pub(crate) use organization::{ListedOrganization, OrganizationView};
pub(crate) use pipeline::{ConnectionView, NodeTypeView, NodeView, PipelineSummary, PipelineView};
pub(crate) use product::ProductView;
pub(crate) use project::{ProjectDetail, ProjectView};
pub(crate) use schedule::ScheduleView;
pub(crate) use template::{TemplateData, TemplateView};
pub(crate) use usage::{UsageRecord, UsageSum};
pub(crate) use webhook::{DeliveryView, SUBSCRIBABLE, TimelineView, WebhookView};
pub(crate) use word_lists::{
    execution_status, job_status, job_type, missed, orchestration_status, pipeline_status, project_priority,
    project_status, settable_status,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use std::fmt;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat,
        schema::{Object, Type},
    },
};

/// A time in a body: RFC 3339 in UTC with microseconds, ending in `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) DateTime<Utc>);

impl Time {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self(Utc::now())
    }
}

impl From<DateTime<Utc>> for Time {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

// written by hand so that it is described in place and not as a named type of its own
impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .build()
            .into()
    }
}

impl ToSchema for Time {}

/// The schema of a string that is one of `words`: `#[schema(schema_with = role)]` with a function that calls this.
pub(crate) fn words(words: &'static [&'static str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).build()
}
