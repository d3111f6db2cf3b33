//! Outputs of nodes as templates see them.

use super::output::Output;
use minijinja::value::{Object, Serde, Value};
use serde::Serialize;
use std::{fmt, sync::Arc};

/// An output: prints as its text; `text`, `json`, `metadata`, `error`, and the fields of its JSON.
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<Output>);

impl Object for Named {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let output = &self.0;
        match key.as_str()? {
            "text" => Some(Value::from(output.words())),
            "json" => output.json.as_ref().map(data),
            "metadata" => Some(data(&output.metadata)),
            "error" => output.error.as_ref().map(data),
            field => output.json.as_ref()?.get(field).map(data),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.words())
    }
}

/// Data as templates see it.
pub(super) fn data<T: Serialize>(data: &T) -> Value {
    Value::from(Serde(data))
}
