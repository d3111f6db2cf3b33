//! What the peer says: whole answers and streams of two dialects, and everything that can be wrong with them.

use super::{Fault, LlmPeer, Request};
use serde_json::{Value, json};
use std::time::Duration;

/// An answer as it goes over the wire.
pub(super) struct Speech {
    /// Written one after the other; the first is the head.
    pub(super) pieces: Vec<String>,
    /// Between the pieces after the second.
    pub(super) pace: Duration,
    /// `None`: not even that was said.
    pub(super) status: Option<u16>,
    /// It is a whole and right answer.
    pub(super) good: bool,
    /// The connection may be used again.
    pub(super) keep: bool,
}

/// Who is spoken to.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

/// The answer itself.
struct Said {
    words: Vec<String>,
    length: bool,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Speech {
    /// 429 in the manner of OpenAI.
    pub(super) fn refusal(wait: Duration, rate: f64) -> Self {
        let headers = format!(
            "retry-after: {}\r\nx-ratelimit-limit-requests: {rate}\r\nx-ratelimit-remaining-requests: 0\r\n\
             x-ratelimit-reset-requests: {}ms\r\n",
            wait.as_secs_f64().ceil(),
            wait.as_millis()
        );
        Self::error(429, &headers, "")
    }

    /// What is said to a request.
    pub(super) fn new(request: &Request, usage: bool, pace: Duration, fault: Option<&Fault>, headers: &str) -> Self {
        let Request { path, key, body } = request;
        let key = key.as_deref().unwrap_or_default();
        let dialect = match path.as_str() {
            "/v1/chat/completions" => Dialect::OpenAi,
            "/v1/messages" => Dialect::Anthropic,
            "/v1/api/chat" => Dialect::Ollama,
            _ => return Self::error(404, "", key),
        };
        let streamed = body["stream"].as_bool().unwrap_or(false);
        let said = Said::to(body);
        match fault {
            Some(Fault::Status(status)) => Self::error(*status, "", key),
            Some(Fault::StatusWith(status, name, value)) => Self::error(*status, &format!("{name}: {value}\r\n"), key),
            Some(Fault::Html) => Self::whole(200, "text/html", "", "<html><body>Welcome!</body></html>").bad(),
            Some(Fault::Empty) => Self::whole(200, "text/plain", "", "").bad(),
            Some(Fault::BrokenJson) if streamed => {
                Self::stream(headers, vec!["event: content_block_delta\ndata: {broken\n\n".to_owned()], pace).bad()
            }
            Some(Fault::BrokenJson) => Self::whole(200, "application/json", "", "{broken").bad(),
            Some(Fault::Disconnect | Fault::Hang) => {
                Self { pieces: Vec::new(), pace, status: None, good: false, keep: false }
            }
            Some(Fault::Break | Fault::Cut) if !streamed => {
                let mut speech =
                    Self::whole(200, "application/json", "", &dialect.whole(&said, usage).to_string()).bad();
                if let Some(body) = speech.pieces.last_mut() {
                    body.truncate(body.len() / 2);
                }
                speech
            }
            None | Some(Fault::NoEnd | Fault::ErrorEvent | Fault::Break | Fault::Cut) if streamed => {
                let mut events = dialect.events(&said, usage);
                let middle = events.len() / 2;
                match fault {
                    Some(Fault::NoEnd) => events.truncate(events.len() - 1),
                    Some(Fault::Break | Fault::Cut) => events.truncate(middle),
                    Some(Fault::ErrorEvent) => {
                        events.truncate(middle);
                        events.push(dialect.error_event());
                    }
                    _ => {}
                }
                let mut speech = Self::stream(headers, events, pace);
                match fault {
                    None => speech,
                    Some(Fault::Break) => {
                        // without the last chunk of the transfer the stream is broken, not ended
                        speech.pieces.pop();
                        speech.bad()
                    }
                    Some(_) => speech.bad(),
                }
            }
            None | Some(Fault::NoEnd | Fault::ErrorEvent | Fault::Break | Fault::Cut) => {
                Self::whole(200, "application/json", headers, &dialect.whole(&said, usage).to_string())
            }
        }
    }

    /// Providers like to repeat the key that they do not accept.
    fn error(status: u16, headers: &str, key: &str) -> Self {
        let kind = match status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let message = format!("the peer was told to answer {status} to {key:?}");
        let body = json!({ "type": "error", "error": { "message": message, "type": kind, "code": kind } });
        let mut speech = Self::whole(status, "application/json", headers, &body.to_string());
        speech.good = false;
        speech
    }

    fn whole(status: u16, content_type: &str, headers: &str, body: &str) -> Self {
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        Self { pieces: vec![head, body.to_owned()], pace: Duration::ZERO, status: Some(status), good: true, keep: true }
    }

    fn stream(headers: &str, events: Vec<String>, pace: Duration) -> Self {
        let mut pieces = vec![format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}transfer-encoding: chunked\r\n\r\n"
        )];
        pieces.extend(events.into_iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())));
        pieces.push("0\r\n\r\n".to_owned());
        Self { pieces, pace, status: Some(200), good: true, keep: true }
    }

    const fn bad(mut self) -> Self {
        self.good = false;
        self.keep = false;
        self
    }
}

impl Said {
    /// The answer to a request, within its `max_tokens` and before its first stop sequence.
    fn to(body: &Value) -> Self {
        let prompt = prompt(body);
        let mut text = LlmPeer::answer(&last(body));
        for stop in ["/stop", "/stop_sequences", "/options/stop"] {
            for stop in body.pointer(stop).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                if let Some(place) = text.find(stop) {
                    text.truncate(place);
                }
            }
        }
        let mut words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let most = ["/max_tokens", "/max_completion_tokens", "/options/num_predict"];
        let most = most.into_iter().find_map(|path| body.pointer(path)?.as_u64());
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let length = words.len() > most;
        words.truncate(most);
        Self { length, prompt_tokens: prompt.split_whitespace().count(), completion_tokens: words.len(), words }
    }

    fn text(&self) -> String {
        self.words.concat()
    }
}

impl Dialect {
    fn whole(self, said: &Said, usage: bool) -> Value {
        match self {
            Self::OpenAi => {
                let finish = if said.length { "length" } else { "stop" };
                let message = json!({ "role": "assistant", "content": said.text() });
                let mut body = json!({
                    "id": "chatcmpl-peer", "object": "chat.completion", "created": 1, "model": "peer",
                    "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
                });
                if usage {
                    body["usage"] = openai_usage(said);
                }
                body
            }
            Self::Anthropic => {
                let finish = if said.length { "max_tokens" } else { "end_turn" };
                let mut body = json!({
                    "id": "msg_peer", "type": "message", "role": "assistant", "model": "peer",
                    "content": [{ "type": "text", "text": said.text() }], "stop_reason": finish,
                });
                if usage {
                    body["usage"] =
                        json!({ "input_tokens": said.prompt_tokens, "output_tokens": said.completion_tokens });
                }
                body
            }
            Self::Ollama => ollama(&said.text(), Some(said), usage),
        }
    }

    /// The events of a stream; the last one is its end marker.
    fn events(self, said: &Said, usage: bool) -> Vec<String> {
        match self {
            Self::OpenAi => {
                let chunk = |delta: Value, finish: Option<&str>| {
                    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
                    let chunk = json!({ "id": "chatcmpl-peer", "object": "chat.completion.chunk", "choices": choices });
                    format!("data: {chunk}\n\n")
                };
                let mut events: Vec<_> =
                    said.words.iter().map(|word| chunk(json!({ "content": word }), None)).collect();
                events.push(chunk(json!({}), Some(if said.length { "length" } else { "stop" })));
                if usage {
                    let chunk = json!({ "id": "chatcmpl-peer", "choices": [], "usage": openai_usage(said) });
                    events.push(format!("data: {chunk}\n\n"));
                }
                events.push("data: [DONE]\n\n".to_owned());
                events
            }
            Self::Anthropic => {
                let event = |kind: &str, mut data: Value| {
                    data["type"] = kind.into();
                    format!("event: {kind}\ndata: {data}\n\n")
                };
                let mut message = json!({ "id": "msg_peer", "role": "assistant", "content": [] });
                let mut end = json!({
                    "delta": { "stop_reason": if said.length { "max_tokens" } else { "end_turn" } },
                });
                if usage {
                    message["usage"] = json!({ "input_tokens": said.prompt_tokens, "output_tokens": 1 });
                    end["usage"] = json!({ "output_tokens": said.completion_tokens });
                }
                let block = json!({ "type": "text", "text": "" });
                let mut events = vec![
                    event("message_start", json!({ "message": message })),
                    event("content_block_start", json!({ "index": 0, "content_block": block })),
                ];
                events.extend(said.words.iter().map(|word| {
                    let delta = json!({ "type": "text_delta", "text": word });
                    event("content_block_delta", json!({ "index": 0, "delta": delta }))
                }));
                events.push(event("content_block_stop", json!({ "index": 0 })));
                events.push(event("message_delta", end));
                events.push(event("message_stop", json!({})));
                events
            }
            Self::Ollama => {
                let lines = said.words.iter().map(|word| ollama(word, None, usage));
                lines.chain([ollama("", Some(said), usage)]).map(|line| format!("{line}\n")).collect()
            }
        }
    }

    fn error_event(self) -> String {
        let error = json!({ "type": "error", "error": { "type": "server_error", "message": "told to fail" } });
        match self {
            Self::OpenAi => format!("data: {error}\n\n"),
            Self::Anthropic => format!("event: error\ndata: {error}\n\n"),
            Self::Ollama => "{\"error\":\"told to fail\"}\n".to_owned(),
        }
    }
}

fn openai_usage(said: &Said) -> Value {
    json!({
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "total_tokens": said.prompt_tokens + said.completion_tokens,
    })
}

/// A line of Ollama's; the last one says how it `ended`.
fn ollama(text: &str, ended: Option<&Said>, usage: bool) -> Value {
    let message = json!({ "role": "assistant", "content": text });
    let mut line = json!({ "model": "peer", "message": message, "done": ended.is_some() });
    if let Some(said) = ended {
        line["done_reason"] = if said.length { "length" } else { "stop" }.into();
        if usage {
            line["prompt_eval_count"] = said.prompt_tokens.into();
            line["eval_count"] = said.completion_tokens.into();
        }
    }
    line
}

/// All that was said in a request, a line a message.
pub(super) fn prompt(body: &Value) -> String {
    let system = body.get("system").map(text);
    let messages = body["messages"].as_array().into_iter().flatten().map(|message| text(&message["content"]));
    system.into_iter().chain(messages).collect::<Vec<_>>().join("\n")
}

/// The last message, with a note of the images in it.
fn last(body: &Value) -> String {
    let message = body["messages"].as_array().and_then(|messages| messages.last());
    message.map(|message| text(&message["content"])).unwrap_or_default()
}

/// The words of a message's content; an image is `[image]`.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts = parts.iter().map(|part| part["text"].as_str().unwrap_or("[image]"));
            parts.collect::<Vec<_>>().join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}
