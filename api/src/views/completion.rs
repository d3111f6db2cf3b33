//! What models said, as clients see it. The choices and the usage are as workers store them.

use super::words;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::kind::Speaker;
use utoipa::{ToSchema, openapi::schema::Object};
use uuid::Uuid;

pub(crate) fn speaker() -> Object {
    words(Speaker::WORDS)
}

fn finish_reason() -> Object {
    words(&["stop", "length"])
}

/// How many tokens were read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TokenUsage {
    prompt_tokens: i64,
    completion_tokens: i64,
    total_tokens: i64,
}

impl TokenUsage {
    /// Of one call.
    pub(crate) const fn of(prompt_tokens: i64, completion_tokens: i64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// A message of the model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reply {
    #[schema(schema_with = speaker)]
    pub(crate) role: Speaker,
    pub(crate) content: String,
}

/// An answer in a conversation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChatChoice {
    index: i64,
    pub(crate) message: Reply,
    #[schema(schema_with = finish_reason)]
    pub(crate) finish_reason: String,
}

/// One version of a text.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct TextChoice {
    text: String,
    index: i64,
    #[schema(schema_with = finish_reason)]
    finish_reason: String,
}

/// What a job leaves that asked a model.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelResult<C> {
    pub(crate) choices: Vec<C>,
    pub(crate) usage: TokenUsage,
    #[serde(default)]
    pub(crate) metadata: Value,
}

/// An answer of a model: `Answer<ChatChoice>` in a conversation, `Answer<TextChoice>` to a prompt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer<C> {
    /// Of the job that answered.
    id: Uuid,
    /// As it was asked for.
    model: String,
    choices: Vec<C>,
    usage: TokenUsage,
    /// Unix seconds.
    created: i64,
    /// Which model really answered (`answered_by`), at which `provider`, whether it is the `local` one, what it cost.
    #[schema(value_type = Object)]
    metadata: Value,
}

impl<C> Answer<C> {
    pub(crate) fn new(id: Uuid, model: String, created_at: DateTime<Utc>, result: ModelResult<C>) -> Self {
        let ModelResult { choices, usage, metadata } = result;
        Self { id, model, choices, usage, created: created_at.timestamp(), metadata }
    }
}

/// A piece of an answer that is streamed: the data of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk<'a> {
    pub(crate) id: Uuid,
    pub(crate) model: &'a str,
    /// Unix seconds.
    pub(crate) created: i64,
    pub(crate) choices: [ChunkChoice<'a>; 1],
    /// In the last one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<TokenUsage>,
    /// In the last one only, as in an answer that is not streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Value>,
}

/// What a piece adds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice<'a> {
    pub(crate) index: i64,
    pub(crate) delta: Delta<'a>,
    #[schema(schema_with = finish_reason)]
    pub(crate) finish_reason: Option<&'a str>,
}

/// What a piece adds to the message.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta<'a> {
    /// In the first one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = speaker)]
    pub(crate) role: Option<Speaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<&'a str>,
}
