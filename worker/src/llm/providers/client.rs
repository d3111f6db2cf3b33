//! One call to one provider, whole or streamed.
//!
//! The library below tells a whole stream from a broken one only by its last event, and takes many a broken one for
//! an end: whoever does not say why the answer ended has not ended it.

use super::{
    super::{ErrorKind, Finish, LlmError, Message, Part, Request, Said},
    errors::{classify, own, transport},
    governor::Governor,
    limits::quota,
    transport::Transport,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use genai::{
    ModelIden, ServiceTarget,
    adapter::AdapterKind,
    chat::{ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, MessageContent, StopReason, Usage},
    resolver::{AuthData, Endpoint},
};
use serde_json::Value;
use shared::{
    kind::Speaker,
    llm::{Dialect, Provider, Served},
};
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, time::timeout};
use url::Url;

/// The key for servers that want none; they take any.
const NO_KEY: &str = "none";

/// Speaks with all providers; connections are kept for the next call.
pub(super) struct Client {
    genai: genai::Client,
    transport: Transport,
}

impl Client {
    pub(super) fn new() -> anyhow::Result<Self> {
        let transport = Transport::new()?;
        Ok(Self { genai: genai::Client::builder().with_reqwest(transport.client()?).build()?, transport })
    }

    /// Sends the call and waits for its end, as long as the provider may take. What the answer says about the calls that
    /// are left goes to the governor at once.
    pub(super) async fn call(
        &self,
        served: Served<'_>,
        request: &Request,
        tokens: Option<mpsc::Sender<String>>,
        governor: &Governor,
    ) -> Result<Said, LlmError> {
        let provider = served.provider;
        let limit = Duration::from_secs(provider.timeout_seconds);
        let base_url = Url::parse(&provider.base_url).map_err(|error| {
            own(ErrorKind::BadRequest, format!("the base URL of {} is none: {error}", provider.name))
        })?;
        let (route, head) = self.transport.route(base_url);
        let (target, options, chat) = (target(served, route.base_url()), options(provider, request), chat(request));
        let answer = async {
            match tokens {
                None => self.whole(provider, request, target, &options, chat).await,
                Some(tokens) => self.streamed(provider, request, target, &options, chat, tokens).await,
            }
        };
        let late = || own(ErrorKind::Timeout, format!("{} did not answer within {limit:?}", provider.name));
        let in_time = async {
            let answer = timeout(limit, answer).await.unwrap_or_else(|_| Err(late()));
            // nothing more will be heard
            drop(route);
            answer
        };
        let heard = async {
            match head.await {
                Ok(Ok(headers)) => {
                    if let Some(quota) = quota(&headers) {
                        governor.hear(provider, quota).await;
                    }
                    None
                }
                Ok(Err(error)) => Some(transport(&error)),
                // not sent, refused, or given up
                Err(_) => None,
            }
        };
        match tokio::join!(in_time, heard) {
            (Err(_), Some((kind, message))) => Err(own(kind, format!("{} {message}", provider.name))),
            (answer, _) => answer,
        }
    }

    async fn whole(
        &self,
        provider: &Provider,
        request: &Request,
        target: ServiceTarget,
        options: &ChatOptions,
        chat: ChatRequest,
    ) -> Result<Said, LlmError> {
        let answer = self.genai.exec_chat(target, chat, Some(options)).await.map_err(|e| told(&e, provider))?;
        let text = untrimmed(answer.captured_raw_body.as_ref(), answer.content.into_texts().concat());
        if text.is_empty() && answer.stop_reason.is_none() {
            return Err(own(ErrorKind::BadResponse, format!("{} sent JSON without an answer", provider.name)));
        }
        // a whole answer is whole, even from a server that does not say why it ended
        let spent = answer.usage.completion_tokens.unwrap_or(0);
        let finish = match answer.stop_reason {
            Some(reason) => finish(&reason),
            None if u32::try_from(spent).is_ok_and(|spent| spent >= request.max_tokens) => Finish::Length,
            None => Finish::Stop,
        };
        Ok(said(request, text, finish, Some(&answer.usage)))
    }

    async fn streamed(
        &self,
        provider: &Provider,
        request: &Request,
        target: ServiceTarget,
        options: &ChatOptions,
        chat: ChatRequest,
        tokens: mpsc::Sender<String>,
    ) -> Result<Said, LlmError> {
        let started = Instant::now();
        let answer = self.genai.exec_chat_stream(target, chat, Some(options)).await;
        let mut events = answer.map_err(|e| told(&e, provider))?.stream;
        let (mut text, mut end) = (String::new(), None);
        let gone = || own(ErrorKind::Truncated, "nobody waits for the answer any more".to_owned());
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokens.closed() => return Err(gone()),
            };
            match event {
                None => break,
                Some(Err(error)) => return Err(told(&error, provider)),
                Some(Ok(ChatStreamEvent::Chunk(piece))) => {
                    if text.is_empty() {
                        metrics::histogram!("atelier_llm_first_token_seconds", "provider" => provider.name.clone())
                            .record(started.elapsed());
                    }
                    text.push_str(&piece.content);
                    tokens.send(piece.content).await.map_err(|_| gone())?;
                }
                Some(Ok(ChatStreamEvent::End(event))) => end = Some(event),
                Some(Ok(
                    ChatStreamEvent::Start
                    | ChatStreamEvent::Heartbeat
                    | ChatStreamEvent::ReasoningChunk(_)
                    | ChatStreamEvent::ThoughtSignatureChunk(_)
                    | ChatStreamEvent::ToolCallChunk(_),
                )) => {}
            }
        }
        let reason = end.as_ref().and_then(|end| end.captured_stop_reason.as_ref());
        let Some(reason) = reason else {
            let message = format!("the stream of {} ended without its end", provider.name);
            return Err(own(ErrorKind::Truncated, message));
        };
        Ok(said(request, text, finish(reason), end.as_ref().and_then(|end| end.captured_usage.as_ref())))
    }
}

/// The text of a whole answer as the provider sent it. The library takes the space around it away in one of the dialects,
/// and leaves it in a stream; both are to be the same.
fn untrimmed(body: Option<&Value>, text: String) -> String {
    let sent = body.and_then(|body| body.pointer("/choices/0/message/content")?.as_str());
    sent.filter(|sent| sent.trim() == text).map_or(text, str::to_owned)
}

fn told(error: &genai::Error, provider: &Provider) -> LlmError {
    classify(error, &provider.name, provider.key.as_ref().map(shared::config::Secret::expose))
}

/// Where the call goes. The dialect is ours to say: the library would guess it from the model's name.
fn target(served: Served<'_>, base_url: String) -> ServiceTarget {
    let kind = match served.provider.dialect {
        Dialect::OpenAi => AdapterKind::OpenAI,
        Dialect::Anthropic => AdapterKind::Anthropic,
        Dialect::Ollama => AdapterKind::Ollama,
    };
    let key = served.provider.key.as_ref().map_or(NO_KEY, shared::config::Secret::expose);
    ServiceTarget {
        endpoint: Endpoint::from_owned(base_url),
        auth: AuthData::from_single(key),
        model: ModelIden::new(kind, served.upstream),
    }
}

fn options(provider: &Provider, request: &Request) -> ChatOptions {
    let limit = Duration::from_secs(provider.timeout_seconds);
    let mut options = ChatOptions::default()
        .with_max_tokens(request.max_tokens)
        .with_stop_sequences(request.stop.clone())
        .with_capture_usage(true)
        .with_capture_raw_body(true)
        .with_stream_header_timeout(limit)
        // silence this long in a stream is death
        .with_stream_read_timeout(limit / 2);
    let narrowed = request.top_p < 1.0;
    // 1 is what they do anyway, and Anthropic's newer models take only one of the two
    if narrowed {
        options = options.with_top_p(request.top_p);
    }
    if !(narrowed && provider.dialect == Dialect::Anthropic) {
        options = options.with_temperature(request.temperature);
    }
    options
}

fn chat(request: &Request) -> ChatRequest {
    ChatRequest::from_messages(request.messages.iter().map(message).collect())
}

fn message(message: &Message) -> ChatMessage {
    let parts: Vec<_> = message
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => ContentPart::from_text(text),
            Part::Image { content_type, bytes } => {
                ContentPart::from_binary_base64(content_type, BASE64_STANDARD.encode(bytes), None)
            }
        })
        .collect();
    let content = MessageContent::from_parts(parts);
    match message.role {
        Speaker::System => ChatMessage::system(content),
        Speaker::User => ChatMessage::user(content),
        Speaker::Assistant => ChatMessage::assistant(content),
    }
}

const fn finish(reason: &StopReason) -> Finish {
    match reason {
        StopReason::MaxTokens(_) => Finish::Length,
        StopReason::Completed(_)
        | StopReason::ToolCall(_)
        | StopReason::ContentFilter(_)
        | StopReason::StopSequence(_)
        | StopReason::Other(_) => Finish::Stop,
    }
}

/// The answer with the provider's counts, or with guesses where it did not count.
fn said(request: &Request, text: String, finish: Finish, usage: Option<&Usage>) -> Said {
    let counted = usage.and_then(|usage| Some((usage.prompt_tokens?, usage.completion_tokens.unwrap_or(0))));
    let (prompt_tokens, completion_tokens) = match counted {
        Some((prompt, completion)) => (i64::from(prompt.max(0)), i64::from(completion.max(0))),
        None => (request.estimated_prompt_tokens(), estimated_tokens(&text)),
    };
    Said { text, finish, prompt_tokens, completion_tokens, estimated: counted.is_none() }
}

/// A token is about four characters of English.
fn estimated_tokens(text: &str) -> i64 {
    i64::try_from(text.chars().count().div_ceil(4)).unwrap_or(i64::MAX)
}

impl Request {
    /// Tokens of the prompt, guessed: a quarter of its characters, and what an image costs at most providers.
    pub(crate) fn estimated_prompt_tokens(&self) -> i64 {
        const IMAGE: i64 = 1_000;
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts.fold(0, |sum: i64, part| {
            sum.saturating_add(match part {
                Part::Text(text) => estimated_tokens(text),
                Part::Image { .. } => IMAGE,
            })
        })
    }
}
