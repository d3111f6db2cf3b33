//! Putting the structured result into words, by a template: the same result always gives the same text.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::attributes::Attribute;
use super::classify::Classification;
use super::defects::Defect;

/// Stored as `description_model`.
pub const DESCRIPTION_MODEL: &str = "template";

/// Below this the category is called uncertain.
const UNCERTAIN: f64 = 0.4;
/// Below this the classifier's finest guess is left out.
const WORTH_NAMING: f64 = 0.25;

/// What the step stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// A few English sentences.
    pub text: String,
    /// Who wrote them.
    pub model: String,
}

/// Describes a product photo from what the other steps found.
#[must_use]
pub fn describe(
    title: Option<&str>,
    classification: &Classification,
    attributes: &[Attribute],
    defects: &[Defect],
) -> Description {
    let mut text = String::new();
    if let Some(title) = title.map(str::trim).filter(|title| !title.is_empty()) {
        text.push_str(title.trim_end_matches('.'));
        text.push_str(". ");
    }
    text.push_str(&what(classification));
    text.push(' ');
    text.push_str(&looks(attributes));
    text.push(' ');
    text.push_str(&condition(defects));
    Description { text, model: DESCRIPTION_MODEL.to_owned() }
}

fn what(classification: &Classification) -> String {
    let category = classification.label.replace('_', " ");
    let sure = percent(classification.confidence);
    let mut sentence = if classification.confidence < UNCERTAIN {
        format!("The category is uncertain; the closest is \"{category}\" ({sure})")
    } else {
        format!("The photo falls into the category \"{category}\" ({sure})")
    };
    if let Some(guess) = classification.imagenet_top5.first().filter(|guess| guess.probability >= WORTH_NAMING) {
        let _infallible = write!(sentence, ", more precisely: {} ({})", guess.label, percent(guess.probability));
    }
    sentence.push('.');
    sentence
}

fn looks(attributes: &[Attribute]) -> String {
    let value = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute.attribute_name == name);
        found.map(|attribute| attribute.attribute_value.as_str())
    };
    let mut sentence = format!("Its main colour is {}", value("color").unwrap_or("unknown"));
    if let Some(second) = value("secondary_color") {
        let _infallible = write!(sentence, ", with {second}");
    }
    match value("background") {
        Some("plain") => sentence.push_str(", on a plain background"),
        Some(_) => sentence.push_str(", in front of a busy background"),
        None => {}
    }
    sentence.push('.');
    sentence
}

fn condition(defects: &[Defect]) -> String {
    let worst = defects.iter().max_by_key(|defect| defect.severity);
    match (defects, worst) {
        (_, None) => "No visible defects were found.".to_owned(),
        ([only], _) => format!("One possible defect: a {} of {} severity.", only.defect_type, only.severity.as_str()),
        (several, Some(worst)) => {
            let kinds = kinds(several);
            format!("{} possible defects ({kinds}), the worst of {} severity.", several.len(), worst.severity.as_str())
        }
    }
}

/// The types that occur, each once, in the order found.
fn kinds(defects: &[Defect]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for defect in defects {
        if !kinds.contains(&defect.defect_type.as_str()) {
            kinds.push(&defect.defect_type);
        }
    }
    kinds.join(", ")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
