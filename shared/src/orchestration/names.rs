//! Names of phases, of integrations, and of the files that keep what they gave.

use super::{MAX_PHASE_NAME, MAX_PHASES};
use crate::models::Orchestration;
use serde_json::Value;

/// Most integrations of a template that are looked at.
const MAX_INTEGRATIONS: usize = 20;

/// The name of the file that keeps the text of a phase.
pub fn phase_filename(run: &Orchestration, phase: usize) -> String {
    let name = run.phases.get(phase).map(String::as_str).unwrap_or_default();
    format!("{phase:02}-{}.md", slug(name, "phase"))
}

/// The name of the file that keeps the summary for an integration.
pub fn summary_filename(integration: &str) -> String {
    format!("summary-{}.md", slug(integration, "integration"))
}

/// The name of a phase as it is shown: words separated by single spaces, each with a capital at its beginning.
pub fn title_case(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || c.is_control() || c == '_').filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    };
    words.map(capital).collect::<Vec<_>>().join(" ")
}

/// The phases that a template names, in title case. `None`: it names none that can be used.
pub fn template_phases(template_data: &Value) -> Option<Vec<String>> {
    let named = template_data.get("phases")?.as_array()?;
    let names = named.iter().filter_map(Value::as_str).map(|name| {
        let cut: String = title_case(name).chars().take(MAX_PHASE_NAME).collect();
        cut
    });
    let phases: Vec<String> = names.filter(|name| !name.is_empty()).take(MAX_PHASES).collect();
    (!phases.is_empty()).then_some(phases)
}

/// The integrations that a template names, in small letters, each once.
pub fn template_integrations(template_data: &Value) -> Vec<String> {
    let named = template_data.get("integrations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut integrations: Vec<String> = Vec::new();
    for word in named.iter().filter_map(Value::as_str) {
        let word = word.trim().to_lowercase();
        if !word.is_empty() && !integrations.contains(&word) && integrations.len() < MAX_INTEGRATIONS {
            integrations.push(word);
        }
    }
    integrations
}

/// A text as part of a file's name.
pub(super) fn slug(text: &str, if_empty: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase).take(60) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { if_empty.to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::run, *};
    use serde_json::json;

    #[test]
    fn names_are_shown_in_title_case() {
        for (given, shown) in [
            ("ideation", "Ideation"),
            ("  market \n research ", "Market Research"),
            ("quality_assurance", "Quality Assurance"),
            ("API design", "API Design"),
            ("übersicht", "Übersicht"),
            (" \t", ""),
        ] {
            assert_eq!(title_case(given), shown, "{given}");
        }
    }

    #[test]
    fn files_have_names_that_any_system_takes() {
        let run = run(&["Market Research / Part 2", "…"], true, &[]);
        assert_eq!(phase_filename(&run, 0), "00-market-research-part-2.md");
        assert_eq!(phase_filename(&run, 1), "01-phase.md");
        assert_eq!(summary_filename("../wiki"), "summary-wiki.md");
    }

    #[test]
    fn a_template_is_read_as_far_as_it_makes_sense() {
        assert_eq!(
            template_phases(&json!({ "phases": ["plan", "", 7, "do it"] })),
            Some(vec!["Plan".to_owned(), "Do It".to_owned()])
        );
        assert_eq!(template_phases(&json!({ "phases": [] })), None);
        assert_eq!(template_phases(&json!({ "phases": "plan" })), None);
        assert_eq!(template_integrations(&json!({ "integrations": ["Git", "git ", 3, "wiki"] })), ["git", "wiki"]);
        assert!(template_integrations(&json!({})).is_empty());
    }
}
