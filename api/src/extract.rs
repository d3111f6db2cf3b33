//! Reading what a client sent: a JSON body that is parsed and checked before the handler sees it.
//!
//! A client hears of every invalid field at once. serde stops at the first, so a body that does not fit is read again
//! with the bad place replaced by something that fits, until nothing new is found; the rules of garde are then checked
//! on what came out, and what they say about replaced places is dropped.

use crate::{
    config::Config,
    error::{ApiError, Code, Detail},
    state::State,
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web, web::BytesMut};
use futures_util::{StreamExt, future::LocalBoxFuture};
use garde::Validate;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, json};
use std::{fmt, marker::PhantomData, time::Duration};
use tokio::time::timeout;

/// Bodies above this size are checked up to the first mistake only: reading them again costs too much.
const REPAIRABLE: usize = 64 * 1024;

/// Most mistakes that are looked for in the shape of one body.
const MAX_MISTAKES: usize = 20;

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A checked JSON body of at most `MIB` mebibytes.
///
/// Rules that depend on settings get them through the context of garde: `#[garde(context(PasswordPolicy))]`.
#[derive(Debug)]
pub(crate) struct Valid<T, const MIB: usize = 1>(pub(crate) T);

impl<T, const MIB: usize> FromRequest for Valid<T, MIB>
where
    T: DeserializeOwned + Validate + 'static,
    T::Context: for<'a> From<&'a Config>,
{
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<State>>().cloned();
        let payload = payload.take();
        Box::pin(async move {
            let state = state.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the app has no state")))?;
            let body = read(payload, MIB << 20).await?;
            check(&body, &T::Context::from(&state.config)).map(Self)
        })
    }
}

// most rules need no settings
impl From<&Config> for () {
    fn from(_: &Config) -> Self {}
}

/// The rule for a text that people are to read: `#[garde(custom(not_blank))]`.
pub(crate) fn not_blank<C>(text: &str, _: &C) -> garde::Result {
    if text.trim().is_empty() { Err(garde::Error::new("must not be blank")) } else { Ok(()) }
}

/// An object or null: `#[serde(default, deserialize_with = "object")]`. On its own serde would take a list, too, for the
/// fields in their order.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    from.deserialize_any(Object(PhantomData))
}

/// The whole body, at most `limit` bytes.
pub(crate) async fn read(mut payload: Payload, limit: usize) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = timeout(SILENCE, payload.next()).await.map_err(|_| malformed("The body did not come"))? {
        let chunk = chunk.map_err(|error| malformed("The body broke off").because(error))?;
        if body.len() + chunk.len() > limit {
            return Err(malformed(format!("The body is too large; at most {limit} bytes are taken")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Parses and checks a body, or what came through a socket in its place.
///
/// # Errors
/// 400 with every field that is not right.
pub(crate) fn check<T: DeserializeOwned + Validate>(body: &[u8], context: &T::Context) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(malformed("The body is empty; send a JSON object"));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| malformed(format!("The body is not valid JSON: {error}")))?;
    // serde would take a list for the fields in their order
    if !value.is_object() {
        return Err(malformed("The body must be a JSON object"));
    }
    let mut details = Vec::new();
    // PostgreSQL's text cannot hold it; looked for only if it can be there
    if body.windows(6).any(|part| part == br"\u0000") {
        find_nul(&value, String::new(), &mut details);
    }
    let (parsed, mistakes) = parse::<T>(value, body.len() <= REPAIRABLE);
    details.extend(mistakes);
    if let Some(parsed) = &parsed
        && let Err(report) = parsed.validate_with(context)
    {
        for (path, error) in report.iter() {
            let field = path.to_string();
            // what could not be read was replaced: what the rules say of the replacement, or of what it is a part of,
            // is of no interest
            if !details.iter().any(|detail| is_within(&detail.field, &field)) {
                details.push(Detail::new(field, error.message()));
            }
        }
    }
    match parsed {
        Some(parsed) if details.is_empty() => Ok(parsed),
        _ => Err(ApiError::invalid(details)),
    }
}

/// Whether a field is another one or a part of it.
fn is_within(part: &str, whole: &str) -> bool {
    part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::Validation, message)
}

/// Reads `value` as `T`, as often as it takes to find all mistakes in its shape.
fn parse<T: DeserializeOwned>(mut value: Value, repair: bool) -> (Option<T>, Vec<Detail>) {
    let mut mistakes: Vec<Detail> = Vec::new();
    let mut tried = 0;
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(parsed) => return (Some(parsed), mistakes),
            Err(error) => error,
        };
        let mut at = pointer(error.path());
        let message = error.inner().to_string();
        let mut text = message.clone();
        if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            at.push(name.to_owned());
            text = "is required".to_owned();
        } else if message.starts_with("UUID parsing failed") {
            text = "must be a UUID".to_owned();
        }
        let field = dotted(&at);
        if mistakes.last().is_some_and(|last| last.field == field) {
            tried += 1;
        } else {
            if mistakes.len() == MAX_MISTAKES {
                return (None, mistakes);
            }
            mistakes.push(Detail::new(field, text));
            tried = 0;
        }
        let replacement = replacements(&message).nth(tried).filter(|_| repair);
        if !replacement.is_some_and(|replacement| put(&mut value, &at, replacement)) {
            return (None, mistakes);
        }
    }
}

/// What may stand in for a value that does not fit, likeliest first.
fn replacements(message: &str) -> impl Iterator<Item = Value> {
    let variant = message.split("expected one of `").nth(1).and_then(|rest| rest.split('`').next());
    let variant = variant.or_else(|| message.split("expected `").nth(1).and_then(|rest| rest.split('`').next()));
    let variant = variant.map(|word| json!(word));
    variant.into_iter().chain([
        Value::Null,
        json!(""),
        json!(0),
        json!(false),
        json!([]),
        json!({}),
        json!("00000000-0000-0000-0000-000000000000"),
        json!("1970-01-01T00:00:00Z"),
    ])
}

fn pointer(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// `["nodes", "1", "id"]` as `nodes[1].id`.
fn dotted(path: &[String]) -> String {
    path.iter().fold(String::new(), |mut field, part| {
        if part.bytes().all(|b| b.is_ascii_digit()) && !field.is_empty() {
            field.push_str(&format!("[{part}]"));
        } else {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(part);
        }
        field
    })
}

/// Puts `replacement` at a place; `false` if there is no such place.
fn put(value: &mut Value, path: &[String], replacement: Value) -> bool {
    let Some((last, way)) = path.split_last() else {
        return false;
    };
    let place = way.iter().try_fold(value, |value, part| match value {
        Value::Object(fields) => fields.get_mut(part),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    });
    match place {
        Some(Value::Object(fields)) => {
            fields.insert(last.clone(), replacement);
            true
        }
        Some(Value::Array(items)) => match last.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
            Some(item) => {
                *item = replacement;
                true
            }
            None => false,
        },
        _ => false,
    }
}

/// Lists every text with a zero character in it.
fn find_nul(value: &Value, field: String, details: &mut Vec<Detail>) {
    let below = |part: String| if field.is_empty() { part } else { format!("{field}.{part}") };
    match value {
        Value::String(text) if text.contains('\0') => {
            details.push(Detail::new(field, "must not contain the character U+0000"));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nul(item, format!("{field}[{index}]"), details);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                if key.contains('\0') {
                    details.push(Detail::new(field.clone(), "a key must not contain the character U+0000"));
                } else {
                    find_nul(item, below(key.clone()), details);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use uuid::Uuid;

    #[derive(Debug, Deserialize, Validate)]
    struct Item {
        #[garde(length(min = 1))]
        id: String,
        #[garde(range(max = 5))]
        rank: u8,
    }

    #[derive(Debug, Deserialize, Validate)]
    struct Body {
        #[garde(length(chars, min = 3))]
        name: String,
        #[garde(skip)]
        product: Uuid,
        #[garde(dive)]
        #[serde(default)]
        items: Vec<Item>,
        #[garde(skip)]
        active: Option<bool>,
    }

    fn fields(body: &Value) -> Vec<String> {
        let error = check::<Body>(body.to_string().as_bytes(), &()).unwrap_err();
        error.details().iter().map(|detail| detail.field.clone()).collect()
    }

    #[test]
    fn a_good_body_passes_and_unknown_keys_are_ignored() {
        let body = json!({"name": "lamp", "product": Uuid::nil(), "items": [{"id": "a", "rank": 5}], "colour": 1});
        let body: Body = check(body.to_string().as_bytes(), &()).unwrap();
        assert_eq!((body.name.as_str(), body.items.len(), body.active), ("lamp", 1, None));
        assert!(body.product.is_nil());
    }

    #[test]
    fn missing_mistyped_and_forbidden_values_are_reported_together() {
        let body = json!({
            "product": "not an id",
            "items": [{"id": "a", "rank": 1}, {"id": 7, "rank": 9}, {"rank": "high"}],
            "active": "yes",
        });
        let mut found = fields(&body);
        found.sort_unstable();
        assert_eq!(
            found,
            ["active", "items[1].id", "items[1].rank", "items[2].id", "items[2].rank", "name", "product"]
        );
    }

    #[test]
    fn an_empty_object_lists_what_is_required() {
        let error = check::<Body>(b"{}", &()).unwrap_err();
        let said: Vec<_> = error.details().iter().map(|d| (d.field.as_str(), d.message.as_str())).collect();
        assert_eq!(said, [("name", "is required"), ("product", "is required")]);
    }

    #[test]
    fn what_is_no_object_and_what_is_no_json_is_refused() {
        for body in [
            "",
            "  ",
            "{",
            "[1]",
            r#"["lamp", "00000000-0000-0000-0000-000000000000", [], true]"#,
            "\"text\"",
            "null",
            "{\"name\": }",
        ] {
            let error = check::<Body>(body.as_bytes(), &()).unwrap_err();
            assert_eq!(error.code(), Code::Validation, "{body}");
        }
    }

    #[test]
    fn a_zero_character_is_found_wherever_it_is() {
        let body = json!({"name": "a\0bc", "product": Uuid::nil(), "items": [{"id": "\0", "rank": 0}]});
        assert_eq!(fields(&body), ["name", "items[0].id"]);
        let harmless = br#"{"name": "say \\u0000", "product": "00000000-0000-0000-0000-000000000000"}"#;
        assert_eq!(check::<Body>(harmless, &()).unwrap().name, "say \\u0000");
    }

    #[test]
    fn a_large_wrong_body_is_given_up_early() {
        let items: Vec<_> = (0..20_000).map(|_| json!({"id": 1})).collect();
        assert_eq!(fields(&json!({"name": "lamp", "product": Uuid::nil(), "items": items})).len(), 1);
    }
}
