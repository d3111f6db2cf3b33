//! Language models: one way to ask any of them, once, for what has not been asked yet.
//!
//! Where to look: `providers` sends a call to a provider and says what went wrong in terms of [`ErrorKind`]; the governor
//! behind [`Providers::admit`] keeps all workers from calling one that asked for rest; [`Llm::call`] is what jobs use: it
//! records a call before it is sent and when it returns (`record`), pays for it out of the budgets (`bounds` says how much
//! it can cost), and asks other models where the catalogue says so. `relay` passes an answer on while it comes, `tokens`
//! publishes it.

mod ask;
mod bounds;
mod call;
mod providers;
mod record;
mod relay;
pub(crate) mod tokens;

pub(crate) use call::{Call, CallFailure, Llm};
pub use providers::{Hold, Permit, Providers};

use serde::{Deserialize, Serialize};
use shared::kind::Speaker;
use std::time::Duration;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Id of a model of the catalogue.
    pub model: String,
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// 0–1.
    pub temperature: f64,
    /// Above 0, at most 1.
    pub top_p: f64,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who says it.
    pub role: Speaker,
    /// What.
    pub parts: Vec<Part>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// An image, for models that see.
    Image {
        /// `image/jpeg`, say.
        content_type: String,
        /// The file.
        bytes: bytes::Bytes,
    },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model had no more to say.
    Stop,
    /// It had said as much as it was allowed to.
    Length,
}

/// What a provider answered to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// What the model said.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the request.
    pub prompt_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// The provider did not count the tokens; these are guesses.
    pub estimated: bool,
}

/// An answer with where it came from and what it cost; stored as the record of the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) finish: Finish,
    pub(crate) prompt_tokens: i64,
    pub(crate) completion_tokens: i64,
    /// The provider did not count the tokens.
    pub(crate) estimated: bool,
    /// 10^-9 US dollars.
    pub(crate) cost_nanos: i64,
    /// Who answered.
    pub(crate) provider: String,
    /// What answered: the provider's name of the model.
    pub(crate) answered_by: String,
    /// Whether the local model stood in for want of a key.
    pub(crate) local: bool,
    pub(crate) latency_ms: i64,
    /// Models that were asked before and failed, with why.
    pub(crate) fallbacks: Vec<String>,
    /// An earlier attempt had this answer already.
    #[serde(skip)]
    pub(crate) recorded: bool,
}

/// What went wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 429.
    RateLimited,
    /// 503 and 529.
    Overloaded,
    /// Another 5xx, or an error inside a stream.
    Server,
    /// 401, 403: the key is not accepted.
    Auth,
    /// 400, 422: the provider does not take the request.
    BadRequest,
    /// 404: no such model there.
    NotFound,
    /// No answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// Not what the dialect says.
    BadResponse,
    /// The stream ended without its end.
    Truncated,
}

/// What went wrong with a call, and what the provider said about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LlmError {
    /// Of what kind it is.
    pub kind: ErrorKind,
    /// The provider's status, if it answered.
    pub status: Option<u16>,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// For people; holds no key.
    pub message: String,
}

impl ErrorKind {
    /// Whether the same call may work later.
    pub const fn is_passing(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::Server
            | Self::Timeout
            | Self::Connect
            | Self::BadResponse
            | Self::Truncated => true,
            Self::Auth | Self::BadRequest | Self::NotFound => false,
        }
    }

    /// Stable word for rows and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RateLimited => "llm_rate_limited",
            Self::Overloaded => "llm_overloaded",
            Self::Server => "llm_server_error",
            Self::Auth => "llm_auth",
            Self::BadRequest => "llm_bad_request",
            Self::NotFound => "llm_model_missing",
            Self::Timeout => "llm_timeout",
            Self::Connect => "llm_unreachable",
            Self::BadResponse => "llm_bad_response",
            Self::Truncated => "llm_truncated",
        }
    }
}
