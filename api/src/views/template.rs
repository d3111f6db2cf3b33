//! Templates of orchestrations, as everybody sees those that are public and the members of their organization the
//! others.

use super::Time;
use serde::Serialize;
use serde_json::Value;
use shared::models::TemplateRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// A template of orchestrations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
pub(crate) struct TemplateView {
    id: Uuid,
    name: String,
    description: String,
    category: String,
    /// Seen by everybody, not by its organization alone.
    is_public: bool,
    /// Orchestrations that were started from it.
    usage_count: i64,
    created_by: Author,
    #[schema(value_type = TemplateData)]
    template_data: Value,
    created_at: Time,
    updated_at: Time,
}

/// Who made a template.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateAuthor)]
pub(crate) struct Author {
    username: String,
    full_name: String,
}

/// What an orchestration is made from. Further keys are kept as they were sent.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes the data; they are kept and shown as they were sent")]
pub(crate) struct TemplateData {
    /// Names of the phases, in order.
    #[schema(min_items = 1, max_items = 20, example = json!(["Ideation", "Design", "Implementation"]))]
    phases: Vec<String>,
    /// `git`, `docker` and so on.
    #[schema(required = false, example = json!(["git"]))]
    integrations: Vec<String>,
    /// `ai_model`, `max_tokens`, `temperature`, `integration_enabled`, and whatever else was sent.
    #[schema(required = false, value_type = Object)]
    settings: Value,
}

impl From<TemplateRow> for TemplateView {
    fn from(TemplateRow { template, username, full_name }: TemplateRow) -> Self {
        Self {
            id: template.id,
            name: template.name,
            description: template.description,
            category: template.category,
            is_public: template.is_public,
            usage_count: template.usage_count,
            // whose author is none ships with the system
            created_by: Author {
                username: username.unwrap_or_else(|| "atelier".to_owned()),
                full_name: full_name.unwrap_or_else(|| "Atelier".to_owned()),
            },
            template_data: template.template_data,
            created_at: template.created_at.into(),
            updated_at: template.updated_at.into(),
        }
    }
}
