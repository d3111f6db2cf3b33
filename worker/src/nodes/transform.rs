//! `transform`: a simple change of a text or of JSON.

use super::{
    Trouble,
    output::{Output, words},
    scope::Arrived,
};
use jsonpath_rust::JsonPath;
use serde_json::{Value, json};
use shared::pipeline::{Operation, Transform};

/// Most bytes of an output; texts that grow are not even made beyond that.
const MAX: usize = 16 * 1024 * 1024;

pub(super) fn run(config: &Transform, arrived: &Arrived) -> Result<Output, Trouble> {
    let text = arrived.text();
    let separator = config.separator.as_deref().unwrap_or("\n");
    let Some(operation) = config.operation else { return Err(Trouble::lasting("It has no operation.")) };
    Ok(match operation {
        Operation::Upper => Output::text(text.to_uppercase()),
        Operation::Lower => Output::text(text.to_lowercase()),
        Operation::Trim => Output::text(text.trim().to_owned()),
        Operation::Replace => {
            let find = config.find.as_deref().unwrap_or_default();
            let replace = config.replace.as_deref().unwrap_or_default();
            bounded(text.len().saturating_add(text.matches(find).count().saturating_mul(replace.len())))?;
            Output::text(text.replace(find, replace))
        }
        Operation::JsonPath => {
            Output::json(at_path(&data(arrived)?, config.path.as_deref().unwrap_or("$"))?.unwrap_or_default())
        }
        Operation::ParseJson => Output::json(data(arrived)?),
        Operation::Stringify => Output::text(arrived.json().map_or(text, |json| json.to_string())),
        Operation::Length => {
            let length = match arrived.json() {
                Some(Value::Array(list)) => list.len(),
                Some(Value::Object(object)) => object.len(),
                Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => text.chars().count(),
            };
            Output::json(json!(length))
        }
        Operation::Split => Output::json(text.split(separator).map(Value::from).collect()),
        Operation::Join => match arrived.json() {
            Some(Value::Array(list)) => {
                let texts: Vec<String> = list.iter().map(words).collect();
                bounded(texts.len().saturating_mul(separator.len()))?;
                Output::text(texts.join(separator))
            }
            Some(_) | None => return Err(Trouble::lasting("Its input is no list, which could be joined.")),
        },
    })
}

/// Refuses what would grow beyond all bounds before it is made.
fn bounded(bytes: usize) -> Result<(), Trouble> {
    if bytes > MAX { Err(Trouble::lasting("Its output would be too large to be kept.")) } else { Ok(()) }
}

fn data(arrived: &Arrived) -> Result<Value, Trouble> {
    arrived.json().ok_or_else(|| Trouble::lasting("Its input is no JSON."))
}

/// What a path leads to: one value as it is, several as a list.
pub(super) fn at_path(json: &Value, path: &str) -> Result<Option<Value>, Trouble> {
    let found =
        json.query(path).map_err(|error| Trouble::lasting(format!("The path {path} cannot be followed: {error}")))?;
    Ok(match found.as_slice() {
        [] => None,
        [only] => Some((*only).clone()),
        several => Some(several.iter().map(|value| (*value).clone()).collect()),
    })
}
