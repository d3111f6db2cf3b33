//! `chat_completion`: lets a language model answer a conversation.

use super::model_answer::{finish_word, metadata, usage};
use crate::{
    llm::{Call, Message, Part, Request, tokens},
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use serde_json::json;
use shared::kind::{ChatCompletion, ChatMessage};
use tokio::sync::mpsc;

/// Pieces of an answer that may wait to be published.
const WAITING: usize = 64;

pub(super) async fn run(reporter: &Reporter<'_>, chat: &ChatCompletion) -> Result<Outcome, Stop> {
    let message = |said: &ChatMessage| Message { role: said.role, parts: vec![Part::Text(said.content.clone())] };
    let request = Request {
        model: chat.model.clone(),
        messages: chat.messages.iter().map(message).collect(),
        max_tokens: chat.max_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        stop: Vec::new(),
    };
    let call = |tokens| Call { key: "answer", endpoint: chat.endpoint, request: &request, tokens };
    let llm = &reporter.context.llm;
    let answered = if chat.stream {
        let (sender, pieces) = mpsc::channel(WAITING);
        let publish = tokens::publish(reporter.context, reporter.job, pieces);
        tokio::join!(llm.call(reporter, call(Some(sender))), publish).0
    } else {
        llm.call(reporter, call(None)).await
    };
    match answered {
        Ok(answer) => Ok(Outcome::Done(json!({
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": answer.text },
                "finish_reason": finish_word(answer.finish),
            }],
            "usage": usage([&answer]),
            "metadata": metadata(&chat.model, [&answer]),
        }))),
        Err(failure) => failure.into_outcome(),
    }
}
