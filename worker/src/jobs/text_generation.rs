//! `text_generation`: lets a language model go on from a prompt, in one or several versions, each a call of its own.

use super::model_answer::{finish_word, metadata, usage};
use crate::{
    llm::{Answer, Call, CallFailure, Message, Part, Request},
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use shared::kind::{Endpoint, Speaker, TextGeneration};
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls of one job at a time.
const AT_ONCE: usize = 4;

/// Most versions.
const MOST: u8 = 10;

pub(super) async fn run(reporter: &Reporter<'_>, generation: &TextGeneration) -> Result<Outcome, Stop> {
    let request = Request {
        model: generation.model.clone(),
        messages: vec![Message { role: Speaker::User, parts: vec![Part::Text(generation.prompt.clone())] }],
        max_tokens: generation.max_tokens,
        temperature: generation.temperature,
        top_p: generation.top_p,
        stop: generation.stop.clone(),
    };
    // calls under way come to their end when another one fails, since they are paid for; no further one begins
    let over = AtomicBool::new(false);
    let keys: Vec<_> = (0..generation.n.clamp(1, MOST)).map(|index| format!("choice[{index}]")).collect();
    let calls: Vec<_> = keys.iter().map(|key| version(reporter, key, &request, &over)).collect();
    let called: Vec<_> = stream::iter(calls).buffered(AT_ONCE).filter_map(std::future::ready).collect().await;

    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for version in called {
        match version {
            Ok(answer) => answers.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(worst) = failures.into_iter().min_by_key(gravity) {
        return worst.into_outcome();
    }
    let choice = |(index, answer): (usize, &Answer)| json!({ "text": answer.text, "index": index, "finish_reason": finish_word(answer.finish) });
    Ok(Outcome::Done(json!({
        "choices": answers.iter().enumerate().map(choice).collect::<Vec<Value>>(),
        "usage": usage(&answers),
        "metadata": metadata(&generation.model, &answers),
    })))
}

/// One version; `None`: another one has failed before this one began.
///
/// Boxed: the compiler cannot prove for every lifetime that a stream of borrowing futures is `Send`.
fn version<'a>(
    reporter: &'a Reporter<'a>,
    key: &'a str,
    request: &'a Request,
    over: &'a AtomicBool,
) -> BoxFuture<'a, Option<Result<Answer, CallFailure>>> {
    async move {
        if over.load(Ordering::Relaxed) {
            return None;
        }
        let call = Call { key, endpoint: Endpoint::AiGenerate, request, tokens: None };
        let called = reporter.context.llm.call(reporter, call).await;
        if called.is_err() {
            over.store(true, Ordering::Relaxed);
        }
        Some(called)
    }
    .boxed()
}

/// Which of several failures decides about the job: the least curable one.
const fn gravity(failure: &CallFailure) -> u8 {
    match failure {
        CallFailure::Stop(_) => 0,
        CallFailure::Failed { passing: false, .. } => 1,
        CallFailure::Failed { passing: true, .. } => 2,
        CallFailure::Park { .. } => 3,
    }
}
