//! Cursors: the place in a list that a page ends or begins at, as opaque text.
//!
//! A cursor holds the sort values and the id of one element, not a count, so that elements which come or go in front of
//! it do not shift the next page. It also holds the order it was made for, and is refused with any other.

use super::request::Order;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A sort value of one element.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    Time(Option<DateTime<Utc>>),
    Text(Option<String>),
    Integer(Option<i64>),
    Float(Option<f64>),
}

impl Key {
    pub(super) const fn is_null(&self) -> bool {
        match self {
            Self::Time(value) => value.is_none(),
            Self::Text(value) => value.is_none(),
            Self::Integer(value) => value.is_none(),
            Self::Float(value) => value.is_none(),
        }
    }
}

/// A decoded cursor.
#[derive(Debug, PartialEq)]
pub(super) struct Cursor {
    /// Towards the end of the list.
    pub(super) forward: bool,
    /// The sort values of the element next to the page.
    pub(super) keys: Vec<Key>,
    /// Its id.
    pub(super) id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    id: Uuid,
    /// The order it is for.
    s: String,
    /// The sort values as PostgreSQL wrote them.
    v: Vec<Option<String>>,
    /// Towards the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    b: bool,
}

/// The cursor of the page after (`forward`) or before an element.
pub(super) fn encode(forward: bool, order: &[Order], keys: Vec<Option<String>>, id: Uuid) -> String {
    let packed = Packed { id, s: signature(order), v: keys, b: !forward };
    // a struct of strings always serializes
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&packed).unwrap_or_default())
}

impl Cursor {
    /// Reads a cursor that was made for this order.
    pub(super) fn decode(text: &str, order: &[Order]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let packed: Packed = serde_json::from_slice(&bytes).ok()?;
        let storable = packed.v.iter().flatten().all(|text| !text.contains('\0'));
        if packed.s != signature(order) || packed.v.len() != order.len() || !storable {
            return None;
        }
        let keys = order.iter().zip(packed.v).map(|(part, text)| part.by.kind.key(text)).collect::<Option<_>>()?;
        Some(Self { forward: !packed.b, keys, id: packed.id })
    }
}

fn signature(order: &[Order]) -> String {
    let parts: Vec<_> =
        order.iter().map(|part| format!("{}{}", if part.descending { "-" } else { "" }, part.by.name)).collect();
    parts.join(",")
}
