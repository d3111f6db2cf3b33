//! What jobs that ask a language model say about its answers in their results.

use crate::llm::{Answer, Finish};
use serde_json::{Value, json};

/// The word for why an answer ended.
pub(super) const fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Tokens of all answers together.
pub(super) fn usage<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Value {
    let (prompt, completion) = answers.into_iter().fold((0_i64, 0_i64), |(prompt, completion), answer| {
        (prompt.saturating_add(answer.prompt_tokens), completion.saturating_add(answer.completion_tokens))
    });
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt.saturating_add(completion),
    })
}

/// Where the answers came from and what they cost, in US dollars. Several answers to one request come from one model
/// unless a fallback was asked for some of them; the first one is named then.
pub(super) fn metadata<'a>(model: &str, answers: impl IntoIterator<Item = &'a Answer>) -> Value {
    let answers: Vec<_> = answers.into_iter().collect();
    let first = answers.first();
    let nanos = answers.iter().fold(0_i64, |sum, answer| sum.saturating_add(answer.cost_nanos));
    let mut fallbacks: Vec<&String> = answers.iter().flat_map(|answer| &answer.fallbacks).collect();
    fallbacks.dedup();
    #[expect(clippy::cast_precision_loss, reason = "a number for people; the exact one is in the records of the calls")]
    let cost = nanos as f64 / 1e9;
    json!({
        "model": model,
        "provider": first.map(|answer| &answer.provider),
        "answered_by": first.map(|answer| &answer.answered_by),
        "local": first.is_some_and(|answer| answer.local),
        "cost": cost,
        "estimated": answers.iter().any(|answer| answer.estimated),
        "latency_ms": answers.iter().map(|answer| answer.latency_ms).max(),
        "fallbacks": fallbacks,
    })
}
