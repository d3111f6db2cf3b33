//! Outputs of nodes as templates see them.

use super::output::Output;
use minijinja::value::{Object, Value};
use std::{fmt, sync::Arc};

/// An output: prints as its text; `text`, `json`, `metadata`, `error`, and the fields of its JSON.
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<Output>);

impl Object for Named {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let output = &self.0;
        match key.as_str()? {
            "text" => Some(Value::from(output.words())),
            "json" => output.json.as_ref().map(Value::from_serialize),
            "metadata" => Some(Value::from_serialize(&output.metadata)),
            "error" => output.error.as_ref().map(Value::from_serialize),
            field => output.json.as_ref()?.get(field).map(Value::from_serialize),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.words())
    }
}
