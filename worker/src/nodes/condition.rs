//! `condition`: which of two branches is taken.

use super::{
    Trouble,
    output::{Output, words},
    scope::{Arrived, Scope},
    template,
    transform::at_path,
};
use serde_json::Value;
use shared::pipeline::{Condition, Operator};

pub(super) fn run(scope: &Scope<'_>, config: &Condition, arrived: &Arrived) -> Result<Output, Trouble> {
    let branch = match (&config.expression, config.operator) {
        (Some(expression), _) => template::is_true(scope, arrived, expression)?,
        (None, Some(operator)) => compare(config, operator, arrived)?,
        (None, None) => return Err(Trouble::lasting("It has neither an operator nor an expression.")),
    };
    Ok(Output { branch: Some(branch), ..arrived.pass() })
}

fn compare(config: &Condition, operator: Operator, arrived: &Arrived) -> Result<bool, Trouble> {
    let left = match &config.path {
        None => Some(Value::from(arrived.text())),
        Some(path) => arrived.json().map(|json| at_path(&json, path)).transpose()?.flatten(),
    };
    let spelled = |text: String| match config.case_sensitive {
        Some(false) => text.to_lowercase(),
        Some(true) | None => text,
    };
    let text = spelled(left.as_ref().map(words).unwrap_or_default());
    let right = config.value.as_ref();
    let other = spelled(right.map(words).unwrap_or_default());
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let numbers = || match (number(&text), number(&other)) {
        (Some(left), Some(right)) => Ok((left, right)),
        _ => Err(Trouble::lasting(format!("{:?} and {:?} are not two numbers.", super::preview(&text), other))),
    };
    // a list contains its entries, a text its parts
    let contains = || match &left {
        Some(Value::Array(entries)) => entries.iter().any(|entry| spelled(words(entry)) == other),
        Some(_) | None => text.contains(&other),
    };
    Ok(match operator {
        Operator::Equals => text == other,
        Operator::NotEquals => text != other,
        Operator::Contains => contains(),
        Operator::NotContains => !contains(),
        Operator::StartsWith => text.starts_with(&other),
        Operator::EndsWith => text.ends_with(&other),
        Operator::Gt => numbers().map(|(left, right)| left > right)?,
        Operator::Gte => numbers().map(|(left, right)| left >= right)?,
        Operator::Lt => numbers().map(|(left, right)| left < right)?,
        Operator::Lte => numbers().map(|(left, right)| left <= right)?,
        Operator::Exists => left.is_some_and(|left| !left.is_null() && left != ""),
        Operator::IsEmpty => match &left {
            Some(Value::Array(entries)) => entries.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => text.trim().is_empty(),
        },
    })
}
