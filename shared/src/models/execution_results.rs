//! What came out of a run, as the outside sees it: the API shows it, webhooks are told.

use super::{JobStep, StepStatus};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The finished steps of a run whose results are shown: those of nodes that are no input, in their order. `nodes` are
/// those of the execution.
pub fn shown_steps<'a>(nodes: &'a Value, steps: &'a [JobStep]) -> impl Iterator<Item = &'a JobStep> {
    let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    let inputs: HashSet<&str> =
        nodes.iter().filter(|node| node["type"] == "input").filter_map(|node| node["id"].as_str()).collect();
    steps.iter().filter(move |step| step.status == StepStatus::Completed && !inputs.contains(step.name.as_str()))
}

/// The stored result of a node, with every documented key. Of a large one there is the beginning, and the metadata says
/// so; the whole is in the object store, under the key that is returned beside it.
pub fn shown_result(stored: &Value) -> (Value, Option<&str>) {
    let mut metadata = json!({ "model": null, "tokens_used": 0, "cost": 0 });
    if let (Some(all), Some(known)) = (metadata.as_object_mut(), stored["metadata"].as_object()) {
        all.extend(known.clone());
    }
    let mut text = &stored["text"];
    let object = stored["object"].as_str();
    if object.is_some() {
        text = &stored["preview"];
        metadata["truncated"] = json!(true);
        metadata["size_bytes"] = stored["bytes"].clone();
    }
    let mut result = Map::from_iter([
        ("text".to_owned(), json!(text.as_str().unwrap_or_default())),
        ("metadata".to_owned(), metadata),
    ]);
    if let Some(data) = stored.get("json") {
        result.insert("json".to_owned(), data.clone());
    }
    (Value::Object(result), object)
}

/// The word by which clients know why a run failed, for the stored one.
pub fn failure_word(stored: Option<&str>) -> &'static str {
    match stored {
        Some(code) if code == "ai_service_error" || code.starts_with("llm_") => "AI_SERVICE_ERROR",
        Some("quota_exceeded") => "QUOTA_EXCEEDED",
        Some(_) | None => "PIPELINE_EXECUTION_FAILED",
    }
}
