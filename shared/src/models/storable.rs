//! Postgres stores any text but the zero character, which file metadata and models may contain. A job must not fail, or
//! never end, because of one: it is stored as the replacement character.

use serde_json::Value;
use std::borrow::Cow;

const ZERO: char = '\0';
const REPLACEMENT: &str = "\u{fffd}";

/// The text without zero characters.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains(ZERO) { Cow::Owned(text.replace(ZERO, REPLACEMENT)) } else { Cow::Borrowed(text) }
}

/// The value without zero characters in its texts and keys.
pub(super) fn json(value: &Value) -> Cow<'_, Value> {
    if holds_zero(value) { Cow::Owned(replaced(value)) } else { Cow::Borrowed(value) }
}

fn holds_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(ZERO),
        Value::Array(items) => items.iter().any(holds_zero),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains(ZERO) || holds_zero(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn replaced(value: &Value) -> Value {
    match value {
        Value::String(string) => Value::String(text(string).into_owned()),
        Value::Array(items) => items.iter().map(replaced).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (text(key).into_owned(), replaced(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_zero_characters_are_replaced() {
        let value = json!({ "a\0": ["x\0y", { "b": "\u{1}" }], "n": 0, "t": true, "z": null });
        let expected = json!({ "a\u{fffd}": ["x\u{fffd}y", { "b": "\u{1}" }], "n": 0, "t": true, "z": null });
        assert_eq!(*json(&value), expected);
        assert!(matches!(json(&expected), Cow::Borrowed(_)));
    }
}
