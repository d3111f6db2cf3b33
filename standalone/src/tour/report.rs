//! The result of the tour, for people.

use anyhow::Context;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::account::Login;
use crate::terminal;

const SCORES: usize = 5;

#[derive(Deserialize)]
struct Analysis {
    model_version: String,
    classification_label: Option<String>,
    classification_confidence: Option<f64>,
    classification_scores: Map<String, Value>,
    description_text: Option<String>,
    description_model: Option<String>,
    processing_time_ms: Option<f64>,
    extracted_attributes: Vec<Attribute>,
    detected_defects: Vec<Defect>,
}

#[derive(Deserialize)]
struct Attribute {
    attribute_name: String,
    attribute_value: String,
    confidence: f64,
}

#[derive(Deserialize)]
struct Defect {
    defect_type: String,
    severity: String,
    confidence: f64,
    bounding_box: Area,
}

#[derive(Deserialize)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// An analysis as the API answers it, as a table.
pub(super) fn table(analysis: &Value) -> anyhow::Result<Table> {
    let analysis = Analysis::deserialize(analysis).context("the analysis is not as documented")?;
    let mut table = terminal::table();
    let label = analysis.classification_label.context("the analysis has no label")?;
    let confidence = analysis.classification_confidence.unwrap_or_default();
    table.add_row(["is", &format!("{label} ({})", percent(confidence))]);
    table.add_row(["or", &runners_up(&analysis.classification_scores, &label)]);
    if let Some(text) = &analysis.description_text {
        let by = analysis.description_model.as_deref().unwrap_or("unknown");
        table.add_row(["in words", &format!("{text} (by: {by})")]);
    }
    for attribute in &analysis.extracted_attributes {
        let value = format!("{} ({})", attribute.attribute_value, percent(attribute.confidence));
        table.add_row([attribute.attribute_name.as_str(), value.as_str()]);
    }
    if analysis.detected_defects.is_empty() {
        table.add_row(["defects", "none found"]);
    }
    for defect in &analysis.detected_defects {
        let Area { x, y, width, height } = &defect.bounding_box;
        let place = format!("{width:.0} × {height:.0} pixels at {x:.0}, {y:.0}");
        let value = format!("{}, {} ({}), {place}", defect.defect_type, defect.severity, percent(defect.confidence));
        table.add_row(["defect", &value]);
    }
    table.add_row(["models", &analysis.model_version]);
    table.add_row(["time in work", &format!("{:.0} ms", analysis.processing_time_ms.unwrap_or_default())]);
    Ok(table)
}

fn runners_up(scores: &Map<String, Value>, first: &str) -> String {
    let mut others: Vec<(&String, f64)> = scores
        .iter()
        .filter(|(label, _)| label.as_str() != first)
        .map(|(label, score)| (label, score.as_f64().unwrap_or_default()))
        .collect();
    others.sort_by(|left, right| right.1.total_cmp(&left.1));
    let shown: Vec<String> =
        others.iter().take(SCORES - 1).map(|(label, score)| format!("{label} ({})", percent(*score))).collect();
    shown.join(", ")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How to go on by hand; with a chat if somebody answers.
pub(super) fn next_steps(base: &str, login: &Login, chats: bool) -> String {
    let Login { email, password } = login;
    let mut steps = format!(
        "\nTry it yourself (the same user works in {base}/docs):\n\
         \n  TOKEN=$(curl -s {base}/api/v1/auth/login -H 'content-type: application/json' \\\
         \n    -d '{{\"email\":\"{email}\",\"password\":\"{password}\"}}' | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\
         \n  curl -s {base}/api/v1/products -H \"authorization: Bearer $TOKEN\""
    );
    if chats {
        steps += &format!(
            "\n  curl -sN {base}/api/v1/ai/chat -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\\
             \n    -d '{{\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"What is tea?\"}}]}}'"
        );
    }
    steps
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_holds_what_was_found_best_first() {
        let analysis = json!({
            "model_version": "m-1", "classification_label": "espresso", "classification_confidence": 0.96,
            "classification_scores": {"cup": 0.01, "espresso": 0.96, "eggnog": 0.02},
            "description_text": "A cup.", "description_model": "template", "processing_time_ms": 42,
            "extracted_attributes": [{"attribute_name": "color", "attribute_value": "brown", "confidence": 0.5}],
            "detected_defects": [{
                "defect_type": "scratch", "severity": "low", "confidence": 0.9,
                "bounding_box": {"x": 1.0, "y": 2.0, "width": 30.0, "height": 40.0},
            }],
        });
        let text = table(&analysis).unwrap().to_string();
        for part in
            ["espresso (96.0 %)", "eggnog (2.0 %), cup (1.0 %)", "brown (50.0 %)", "30 × 40 pixels at 1, 2", "42 ms"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn an_analysis_without_a_label_is_an_error() {
        let analysis = json!({
            "model_version": "", "classification_label": null, "classification_confidence": null,
            "classification_scores": {}, "description_text": null, "description_model": null,
            "processing_time_ms": null, "extracted_attributes": [], "detected_defects": [],
        });
        assert!(table(&analysis).unwrap_err().to_string().contains("no label"));
    }
}
