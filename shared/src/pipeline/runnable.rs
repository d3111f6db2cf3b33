//! Whether a definition, which may be a draft, can be run, and with these inputs.

use super::{Definition, Kind, Problem};
use crate::llm::Catalogue;
use serde_json::{Map, Value};

impl Definition {
    /// Why this cannot be run, by node: settings that are missing, models that nobody serves. A pipeline without nodes is
    /// named `nodes`.
    pub fn problems_to_run(&self, catalogue: &Catalogue) -> Vec<(String, String)> {
        if self.nodes.is_empty() {
            return vec![("nodes".to_owned(), "The pipeline has no nodes.".to_owned())];
        }
        let mut problems = Vec::new();
        for node in &self.nodes {
            let id = &node.id;
            if let Some(missing) = node.kind.missing() {
                problems.push((id.clone(), format!("The node {id} cannot run: {missing}.")));
            }
            if let Some(model) = node.kind.model() {
                problems.extend(not_served(catalogue, model).map(|why| (id.clone(), format!("The node {id}: {why}"))));
            }
            if let Kind::Map(map) = &node.kind
                && !map.chain.nodes.is_empty()
            {
                let within = map.chain.problems_to_run(catalogue);
                problems
                    .extend(within.into_iter().map(|(_, why)| (id.clone(), format!("In the chain of {id}: {why}"))));
            }
        }
        problems
    }

    /// What is wrong with what a run is given: `inputs.<node id>`.
    pub fn check_inputs(&self, inputs: &Map<String, Value>) -> Vec<Problem> {
        let mut problems: Vec<Problem> = inputs
            .keys()
            .filter(|key| !self.nodes.iter().any(|node| node.id == **key))
            .map(|key| Problem::new(format!("inputs.{key}"), "is the id of no node"))
            .collect();
        for node in &self.nodes {
            if let Kind::Input(input) = &node.kind
                && let Err(message) = input.value(inputs.get(&node.id))
            {
                problems.push(Problem::new(format!("inputs.{}", node.id), message));
            }
        }
        problems
    }
}

/// Why a model cannot be asked, if it cannot.
fn not_served(catalogue: &Catalogue, model: &str) -> Option<String> {
    if catalogue.find(model).is_none() {
        return Some(format!("there is no model {model}."));
    }
    catalogue.find_served(model).is_none().then(|| format!("the model {model} is not served here."))
}

impl Kind {
    /// The model that its settings name.
    fn model(&self) -> Option<&str> {
        match self {
            Self::Openai(config) | Self::Llm(config) => config.model.as_deref(),
            Self::ImageAnalysis(config) => config.describe.as_ref().map(|describe| describe.model.as_str()),
            Self::Input(_)
            | Self::Prompt(_)
            | Self::Transform(_)
            | Self::Condition(_)
            | Self::Merge(_)
            | Self::Map(_)
            | Self::Http(_)
            | Self::Delay(_)
            | Self::Output(_)
            | Self::Integration(_) => None,
        }
    }
}
