//! `merge`: one output of several.

use super::{output::Output, scope::Arrived};
use serde_json::Value;
use shared::pipeline::{Merge, MergeMode};

pub(super) fn run(config: &Merge, arrived: &Arrived) -> Output {
    let data = |output: &Output| output.json.clone().unwrap_or_else(|| Value::from(output.words()));
    match config.mode {
        MergeMode::Text => {
            let text = arrived.joined(config.separator.as_deref().unwrap_or("\n\n"));
            Output { image: arrived.image().cloned(), ..Output::text(text) }
        }
        MergeMode::List => Output::json(arrived.sources.iter().map(|(_, output)| data(output)).collect()),
        MergeMode::Object => {
            Output::json(Value::Object(arrived.sources.iter().map(|(id, output)| (id.clone(), data(output))).collect()))
        }
    }
}
