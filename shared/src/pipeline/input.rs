//! `input`: what a run is given.

use super::Findings;
use base64::Engine;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// Most bytes of an image or file that comes with a run.
const MAX_BYTES: usize = 10 * 1024 * 1024;

/// Settings of an `input` node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Input {
    /// What kind of value it takes.
    #[serde(default)]
    pub input_type: InputType,
    /// Shown in an empty field.
    pub placeholder: Option<String>,
    /// The value of a run that gives none.
    #[serde(alias = "value")]
    pub default_value: Option<Value>,
}

/// What kind of value an input takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// Words: `{"text": "…"}`.
    #[default]
    Text,
    /// Any JSON: `{"value": …}`.
    Json,
    /// An image: `{"image_id": "…"}` of a product, or `{"data": "<base64>", "content_type": "image/jpeg"}`.
    Image,
    /// A text file: `{"data": "<base64>"}` or `{"text": "…"}`.
    File,
}

/// What a run is given, read.
#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// Words.
    Text(String),
    /// Any JSON.
    Json(Value),
    /// An uploaded image of a product.
    Image(Uuid),
    /// An image that came with the run.
    ImageData {
        /// `image/jpeg`, say.
        content_type: String,
        /// The file.
        bytes: Bytes,
    },
}

impl Input {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        if let Some(value) = &self.default_value
            && let Err(message) = self.read(value)
        {
            findings.note("default_value", message);
        }
    }

    /// The value of a run: what it gives, or the default.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn value(&self, given: Option<&Value>) -> Result<InputValue, String> {
        match given.filter(|value| !value.is_null()).or(self.default_value.as_ref()) {
            Some(value) => self.read(value),
            None => Err("is required: the node has no default".to_owned()),
        }
    }

    fn read(&self, value: &Value) -> Result<InputValue, String> {
        // `{"text": …}` and `{"value": …}` wrap a value, which may also come bare
        let inner = ["text", "value"].iter().find_map(|key| value.get(key));
        match self.input_type {
            InputType::Text => match inner.unwrap_or(value) {
                Value::String(text) => Ok(InputValue::Text(text.clone())),
                Value::Number(number) => Ok(InputValue::Text(number.to_string())),
                Value::Bool(truth) => Ok(InputValue::Text(truth.to_string())),
                Value::Null | Value::Array(_) | Value::Object(_) => Err("is to be {\"text\": \"…\"}".to_owned()),
            },
            InputType::Json => Ok(InputValue::Json(value.get("value").unwrap_or(value).clone())),
            InputType::Image => read_image(value.get("value").unwrap_or(value)),
            InputType::File => match inner.unwrap_or(value) {
                Value::String(text) => Ok(InputValue::Text(text.clone())),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    let text = String::from_utf8(read_data(value)?).map_err(|_| "is no text file in UTF-8")?;
                    Ok(InputValue::Text(text))
                }
            },
        }
    }
}

fn read_image(value: &Value) -> Result<InputValue, String> {
    if let Some(id) = value.get("image_id").or_else(|| value.get("imageId")) {
        let id = id.as_str().and_then(|id| id.parse().ok());
        return id.map(InputValue::Image).ok_or_else(|| "has an image_id that is no UUID".to_owned());
    }
    let content_type = value.get("content_type").or_else(|| value.get("contentType")).and_then(Value::as_str);
    let bytes = Bytes::from(read_data(value)?);
    let content_type = content_type.unwrap_or("image/jpeg").to_owned();
    Ok(InputValue::ImageData { content_type, bytes })
}

fn read_data(value: &Value) -> Result<Vec<u8>, String> {
    let data = value.get("data").and_then(Value::as_str).ok_or("is to have its bytes in base64 in `data`")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim()).map_err(|_| "has no base64 in `data`")?;
    if bytes.is_empty() || bytes.len() > MAX_BYTES {
        return Err(format!("is to have 1 to {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}
