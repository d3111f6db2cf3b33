//! The types of node. A new one starts here: add a variant, then follow the compiler.

use super::{
    Condition, Delay, Findings, Http, ImageAnalysis, Input, Integration, Llm, Map, Merge, Output, Problem, Prompt,
    Settings, Transform,
};
use schemars::{JsonSchema, schema_for};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map as Object, Value};

/// What a node does, with its settings.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is explained in the file of its settings")]
pub enum Kind {
    Input(Input),
    Openai(Llm),
    Llm(Llm),
    Prompt(Prompt),
    Transform(Transform),
    Condition(Condition),
    Merge(Merge),
    Map(Map),
    Http(Http),
    ImageAnalysis(ImageAnalysis),
    Delay(Delay),
    Output(Output),
    /// Part of orchestrations alone: it has no word, so that no client can ask for it.
    Integration(Integration),
}

/// A type of node, for the catalogue.
#[derive(Debug, Clone, Serialize)]
pub struct NodeType {
    /// The word in a node's `type`.
    pub r#type: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Input handles.
    pub inputs: &'static [&'static str],
    /// Output handles.
    pub outputs: &'static [&'static str],
    /// JSON schema of its `config`.
    pub config_schema: Value,
}

/// The words of all types, in the order of the catalogue.
pub(super) const WORDS: [&str; 12] = [
    "input",
    "openai",
    "llm",
    "prompt",
    "transform",
    "condition",
    "merge",
    "map",
    "http",
    "image_analysis",
    "delay",
    "output",
];

impl Kind {
    /// Reads a node's config, whose keys are in snake case. `None`: there is no such type.
    pub(super) fn read(word: &str, config: &Object<String, Value>, findings: &mut Findings<'_>) -> Option<Self> {
        let mut kind = match word {
            "input" => Self::Input(config_of(config, findings)),
            "openai" => Self::Openai(config_of(config, findings)),
            "llm" => Self::Llm(config_of(config, findings)),
            "prompt" => Self::Prompt(config_of(config, findings)),
            "transform" => Self::Transform(config_of(config, findings)),
            "condition" => Self::Condition(config_of(config, findings)),
            "merge" => Self::Merge(config_of(config, findings)),
            "map" => Self::Map(config_of(config, findings)),
            "http" => Self::Http(config_of(config, findings)),
            "image_analysis" => Self::ImageAnalysis(config_of(config, findings)),
            "delay" => Self::Delay(config_of(config, findings)),
            "output" => Self::Output(config_of(config, findings)),
            _ => return None,
        };
        match &mut kind {
            Self::Input(config) => config.check(findings),
            Self::Openai(config) | Self::Llm(config) => config.check(findings),
            Self::Prompt(config) => config.check(findings),
            Self::Transform(config) => config.check(findings),
            Self::Condition(config) => config.check(findings),
            Self::Merge(_) => {}
            Self::Map(config) => config.check(findings),
            Self::Http(config) => config.check(findings),
            Self::ImageAnalysis(config) => config.check(findings),
            Self::Delay(config) => config.check(findings),
            Self::Output(config) => config.check(findings),
            Self::Integration(_) => return None,
        }
        Some(kind)
    }

    /// What a draft may leave open and a run may not.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Input(_)
            | Self::Openai(_)
            | Self::Llm(_)
            | Self::Merge(_)
            | Self::ImageAnalysis(_)
            | Self::Output(_)
            | Self::Integration(_) => None,
            Self::Prompt(config) => config.missing(),
            Self::Transform(config) => config.missing(),
            Self::Condition(config) => config.missing(),
            Self::Map(config) => config.missing(),
            Self::Http(config) => config.missing(),
            Self::Delay(config) => config.missing(),
        }
    }

    /// The word in a node's `type`; of an integration, that of its operation.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Openai(_) => "openai",
            Self::Llm(_) => "llm",
            Self::Prompt(_) => "prompt",
            Self::Transform(_) => "transform",
            Self::Condition(_) => "condition",
            Self::Merge(_) => "merge",
            Self::Map(_) => "map",
            Self::Http(_) => "http",
            Self::ImageAnalysis(_) => "image_analysis",
            Self::Delay(_) => "delay",
            Self::Output(_) => "output",
            Self::Integration(integration) => integration.operation_type().as_str(),
        }
    }

    /// Its input handles.
    pub const fn inputs(&self) -> &'static [&'static str] {
        match self {
            Self::Input(_) => &[],
            Self::Openai(_)
            | Self::Llm(_)
            | Self::Prompt(_)
            | Self::Transform(_)
            | Self::Condition(_)
            | Self::Merge(_)
            | Self::Map(_)
            | Self::Http(_)
            | Self::ImageAnalysis(_)
            | Self::Delay(_)
            | Self::Output(_)
            | Self::Integration(_) => &["input"],
        }
    }

    /// Its output handles.
    pub const fn outputs(&self) -> &'static [&'static str] {
        match self {
            Self::Condition(_) => &["true", "false"],
            Self::Output(_) => &[],
            Self::Input(_)
            | Self::Openai(_)
            | Self::Llm(_)
            | Self::Prompt(_)
            | Self::Transform(_)
            | Self::Merge(_)
            | Self::Map(_)
            | Self::Http(_)
            | Self::ImageAnalysis(_)
            | Self::Delay(_)
            | Self::Integration(_) => &["output"],
        }
    }

    fn empty(word: &str) -> Option<Self> {
        let findings = &mut Findings { at: "", problems: &mut Vec::new() };
        Self::read(word, &Object::new(), findings)
    }

    fn title(&self) -> (&'static str, &'static str) {
        match self {
            Self::Input(_) => ("Input", "Takes what a run is given: text, JSON, an image or a file."),
            Self::Openai(_) => ("OpenAI", "Asks a language model of the OpenAI family."),
            Self::Llm(_) => ("Language model", "Asks any language model of the catalogue."),
            Self::Prompt(_) => ("Prompt", "Fills inputs and earlier outputs into a text."),
            Self::Transform(_) => ("Transform", "Changes a text, or takes parts of JSON."),
            Self::Condition(_) => ("Condition", "Takes one of two branches."),
            Self::Merge(_) => ("Merge", "Makes one output of several."),
            Self::Map(_) => ("Map", "Runs a chain of nodes for each entry of a list."),
            Self::Http(_) => ("HTTP request", "Asks another server."),
            Self::ImageAnalysis(_) => ("Image analysis", "Classifies and describes an image."),
            Self::Delay(_) => ("Delay", "Lets time pass."),
            Self::Output(_) => ("Output", "Names a result."),
            Self::Integration(_) => ("Integration", "Does something outside for an orchestration."),
        }
    }

    fn schema(&self) -> Value {
        match self {
            Self::Input(_) => schema::<Input>(),
            Self::Openai(_) | Self::Llm(_) => schema::<Llm>(),
            Self::Prompt(_) => schema::<Prompt>(),
            Self::Transform(_) => schema::<Transform>(),
            Self::Condition(_) => schema::<Condition>(),
            Self::Merge(_) => schema::<Merge>(),
            Self::Map(_) => schema::<Map>(),
            Self::Http(_) => schema::<Http>(),
            Self::ImageAnalysis(_) => schema::<ImageAnalysis>(),
            Self::Delay(_) => schema::<Delay>(),
            Self::Output(_) => schema::<Output>(),
            Self::Integration(_) => Value::Null,
        }
    }
}

/// Reads a config. A key that does not read is a problem and counts as absent, so that all are found at once.
pub(super) fn config_of<T: DeserializeOwned + Default>(
    config: &Object<String, Value>,
    findings: &mut Findings<'_>,
) -> T {
    if let Ok(read) = serde_json::from_value(Value::Object(config.clone())) {
        return read;
    }
    let mut good = Object::new();
    for (key, value) in config {
        let alone = Object::from_iter([(key.clone(), value.clone())]);
        match serde_json::from_value::<T>(Value::Object(alone)) {
            Ok(_) => {
                good.insert(key.clone(), value.clone());
            }
            Err(error) => findings.note(key, error.to_string()),
        }
    }
    serde_json::from_value(Value::Object(good)).unwrap_or_else(|error| {
        // two spellings of one key
        findings.problems.push(Problem::new(findings.at, error.to_string()));
        T::default()
    })
}

/// Every type of node.
pub fn node_types() -> Vec<NodeType> {
    let node_type = |word: &'static str| {
        let kind = Kind::empty(word)?;
        let (title, description) = kind.title();
        let (inputs, outputs) = (kind.inputs(), kind.outputs());
        Some(NodeType { r#type: word, title, description, inputs, outputs, config_schema: kind.schema() })
    };
    WORDS.into_iter().filter_map(node_type).collect()
}

/// The schema of a type's own settings, with those of all types beside them.
fn schema<T: JsonSchema>() -> Value {
    let mut own = schema_for!(T).to_value();
    let common = schema_for!(Settings).to_value();
    for part in ["properties", "$defs"] {
        let Some(more) = common.get(part).and_then(Value::as_object) else { continue };
        if let Some(object) = own.as_object_mut()
            && let Some(there) = object.entry(part).or_insert_with(|| Value::Object(Object::new())).as_object_mut()
        {
            there.extend(more.clone());
        }
    }
    own
}
