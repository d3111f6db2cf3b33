//! What nodes hand on, and how it is kept: small outputs in the row of the step, large ones in the object store.

use super::ran::Left;
use crate::{
    context::Context,
    outcome::{Outcome, Stop},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{models::Failure, storage};
use uuid::Uuid;

/// Bytes of JSON that stay in the row.
const MAX_INLINE: usize = 64 * 1024;

/// Most bytes of an output.
const MAX: u64 = 16 * 1024 * 1024;

/// Bytes of a large output that are shown.
const PREVIEW: usize = 4 * 1024;

/// Levels of lists and objects within each other. What is read back from a row or an object may have 128 with all that is
/// around it.
const MAX_DEPTH: usize = 64;

/// What a node hands on; its form is that of a step's result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Output {
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// As data, where it is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<Value>,
    /// `model`, `tokens_used`, `cost` and more.
    #[serde(default)]
    pub(crate) metadata: Map<String, Value>,
    /// Of a condition: which branch is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<bool>,
    /// An image that goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Image>,
    /// Of a node that failed and was to be passed over: code and message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Value>,
    /// Where text and JSON are, if they are large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<usize>,
    /// The beginning of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preview: Option<String>,
    /// What it used that nobody has counted.
    #[serde(skip)]
    pub(crate) spent: Spent,
    /// What is written down with it.
    #[serde(skip)]
    pub(super) left: Option<Left>,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Image {
    /// An uploaded image of a product.
    ImageId(Uuid),
    /// It came with the run, for this input node.
    Input(String),
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) tokens: i64,
    /// 10^-9 US dollars.
    pub(crate) nanos: i64,
}

/// What an object in the store holds.
#[derive(Serialize, Deserialize)]
struct Large {
    text: Option<String>,
    json: Option<Value>,
}

impl Output {
    pub(crate) fn text(text: String) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    /// Data, and its usual form in words: a text as it is, everything else as JSON.
    pub(crate) fn json(json: Value) -> Self {
        Self { text: Some(words(&json)), json: Some(json), ..Self::default() }
    }

    /// In words.
    pub(crate) fn words(&self) -> &str {
        self.text.as_deref().or(self.preview.as_deref()).unwrap_or_default()
    }

    /// With what it used, also for people.
    #[expect(clippy::cast_precision_loss, reason = "shown to people; 2^53 nano-dollars are nine million dollars")]
    pub(crate) fn having_spent(mut self, spent: Spent) -> Self {
        self.metadata.insert("tokens_used".to_owned(), json!(spent.tokens));
        self.metadata.insert("cost".to_owned(), json!(spent.nanos as f64 / 1e9));
        self.spent = spent;
        self
    }

    /// The result of the step; puts what is large into the object store.
    pub(super) async fn to_result(&self, context: &Context, job_id: Uuid, step: &str) -> Result<Value, KeepError> {
        let broken = |error: serde_json::Error| KeepError::Unwritable(error.to_string());
        if self.json.as_ref().is_some_and(|json| is_deeper(json, MAX_DEPTH)) {
            return Err(KeepError::Unwritable(format!("Its output has more than {MAX_DEPTH} levels.")));
        }
        let size = self.words().len();
        let result = serde_json::to_value(self).map_err(broken)?;
        if size <= MAX_INLINE && (self.json.is_none() || result.to_string().len() <= MAX_INLINE) {
            return Ok(result);
        }
        let large = Large { text: self.text.clone(), json: self.json.clone() };
        let body = serde_json::to_vec(&large).map_err(broken)?;
        let bytes = body.len();
        if u64::try_from(bytes).is_ok_and(|bytes| bytes > MAX) {
            return Err(KeepError::TooLarge);
        }
        let key = storage::node_output_key(job_id, step);
        let put = context.storage.put(&key, Bytes::from(body), "application/json").await;
        put.map_err(|error| KeepError::Storage(format!("{error:#}")))?;
        let kept = Self {
            text: None,
            json: None,
            object: Some(key),
            bytes: Some(bytes),
            preview: Some(preview(self.words()).to_owned()),
            ..self.clone()
        };
        serde_json::to_value(kept).map_err(broken)
    }

    /// An output of an earlier attempt with what is large.
    pub(super) async fn load(mut self, context: &Context) -> Result<Self, Stop> {
        let Some(key) = &self.object else { return Ok(self) };
        let away = |error: anyhow::Error| {
            Stop::retry("storage_unavailable", format!("The object store did not answer: {error:#}"))
        };
        let lost = |why: &str| {
            let message = format!("What an earlier node found is {why} in the object store.");
            let failure = Failure { code: "output_lost".to_owned(), message };
            Stop::With(Box::new(Outcome::Fail { failure, result: None }))
        };
        let body = context.storage.get(key, MAX).await.map_err(away)?.ok_or_else(|| lost("no longer"))?;
        let large: Large = serde_json::from_slice(&body).map_err(|_| lost("unreadable"))?;
        (self.text, self.json) = (large.text, large.json);
        Ok(self)
    }
}

/// Why an output cannot be kept.
pub(super) enum KeepError {
    /// More than there may be.
    TooLarge,
    /// The store is away.
    Storage(String),
    /// It is no JSON.
    Unwritable(String),
}

/// Whether a value has more levels than these.
fn is_deeper(json: &Value, levels: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match json {
        Value::Array(entries) => Box::new(entries.iter()),
        Value::Object(entries) => Box::new(entries.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    levels == 0 || inner.any(|value| is_deeper(value, levels - 1))
}

/// The usual form of data in words.
pub(crate) fn words(json: &Value) -> String {
    match json {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => json.to_string(),
    }
}

/// The beginning of a text.
pub(crate) fn preview(text: &str) -> &str {
    &text[..text.floor_char_boundary(PREVIEW)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_to_the_limit() {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(!is_deeper(&nested(3), 3));
        assert!(is_deeper(&nested(4), 3));
        assert!(is_deeper(&json!({ "a": [{}] }), 2));
    }
}
