//! Templates in node settings: minijinja without files, with limits on what a rendering may take.
//!
//! `{{ node_id }}` stands for the text of a node's output, also where the id is no identifier: `{{ node-1 }}`.

use minijinja::{Environment, UndefinedBehavior};

/// Instructions that one rendering may take.
const FUEL: u64 = 200_000;

/// An environment that reaches nothing outside of it.
pub fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment
}

/// Whether a text reads as a template.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn check(source: &str) -> Result<(), String> {
    match environment().template_from_str(source) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no template: {}", first_line(&error.to_string()))),
    }
}

/// Whether a text reads as an expression.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn check_expression(source: &str) -> Result<(), String> {
    match environment().compile_expression(source) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no expression: {}", first_line(&error.to_string()))),
    }
}

/// Puts `nodes["node-1"]` where a place begins with an id that is no identifier.
pub fn name_nodes<'i>(source: &str, ids: impl Iterator<Item = &'i str>) -> String {
    let mut odd: Vec<&str> = ids.filter(|id| !is_identifier(id)).collect();
    if odd.is_empty() {
        return source.to_owned();
    }
    // the longest id that fits is meant
    odd.sort_by_key(|id| std::cmp::Reverse(id.len()));
    let mut named = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let (before, place) = rest.split_at(start + 2);
        named.push_str(before);
        let inner = place.strip_prefix('-').unwrap_or(place).trim_start();
        named.push_str(&place[..place.len() - inner.len()]);
        rest = inner;
        let meant = odd.iter().find_map(|id| inner.strip_prefix(id).filter(|after| ends_name(after)).map(|r| (id, r)));
        if let Some((id, after)) = meant {
            named.push_str(&format!("nodes[{}]", serde_json::Value::from(*id)));
            rest = after;
        }
    }
    named.push_str(rest);
    named
}

fn ends_name(after: &str) -> bool {
    let after = after.trim_start();
    after.starts_with(['}', '|', '.', '[']) || after.starts_with("-}}")
}

fn is_identifier(id: &str) -> bool {
    let mut chars = id.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}
