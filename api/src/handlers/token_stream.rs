//! An answer of a model as an event stream: chunks as the pieces come, one with the end, `[DONE]`.
//!
//! A task of its own feeds the response through a short channel. A client that reads slowly holds up this task only; one
//! that goes away ends the job. What fails before the first piece is still answered with a status of its own.

use super::model_job::{ModelJob, Said, result};
use crate::{
    error::ApiError,
    state::State,
    views::{ChatChoice, ChatChunk, ChunkChoice, Delta, ModelResult, TokenUsage},
};
use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
    web::{self, Bytes},
};
use chrono::{DateTime, Utc};
use futures_util::stream::poll_fn;
use serde::Serialize;
use serde_json::{Value, json};
use shared::{kind::Speaker, models::Job};
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, interval_at, timeout},
};
use uuid::Uuid;

/// How often something is sent even if there is nothing to say, so that nobody between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long one chunk may wait for a slow client.
const SEND: Duration = Duration::from_secs(30);

/// Chunks that may wait for the client.
const WAITING: usize = 16;

/// Tells the handler what to answer: chunks, or why there are none.
type Begin = oneshot::Sender<Result<mpsc::Receiver<Bytes>, ApiError>>;

/// Nobody reads any more.
struct Gone;

/// Answers with the words of a job as they come.
///
/// # Errors
/// What the job failed with, if it failed before it said anything.
pub(super) async fn respond(state: &web::Data<State>, job: ModelJob, model: String) -> Result<HttpResponse, ApiError> {
    let (begin, begun) = oneshot::channel();
    state.sockets.spawn_local(feed(job, model, begin));
    let mut chunks: mpsc::Receiver<Bytes> =
        begun.await.map_err(|_| ApiError::unavailable("The server stops; ask again", 2))??;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        // nobody between is to keep, change or collect it
        .insert_header((CACHE_CONTROL, "no-store, no-transform"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(poll_fn(move |context| chunks.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>)))))
}

/// Feeds one response from its first word to its last.
async fn feed(mut job: ModelJob, model: String, begin: Begin) {
    let Some((begin, first)) = first_word(&mut job, begin).await else {
        job.cancel().await;
        return;
    };
    let first = match first {
        Some(Said::Failed(error)) => {
            // told in vain to somebody who has gone
            let _ = begin.send(Err(error));
            return;
        }
        said => said,
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut stream = Stream { sender, id: job.id, model, created_at: job.created_at, role: Some(Speaker::Assistant) };
    if begin.send(Ok(receiver)).is_err() || stream.run(&mut job, first).await.is_err() {
        job.cancel().await;
    }
}

/// Waits for the first word, but not for long: the client is to know that it was heard. `None`: the client has gone.
async fn first_word(job: &mut ModelJob, mut begin: Begin) -> Option<(Begin, Option<Said>)> {
    let said = tokio::select! {
        said = job.next() => Some(said),
        () = tokio::time::sleep(HEARTBEAT) => None,
        () = begin.closed() => return None,
    };
    Some((begin, said))
}

/// One client's stream.
struct Stream {
    sender: mpsc::Sender<Bytes>,
    id: Uuid,
    model: String,
    created_at: DateTime<Utc>,
    /// Said with the first chunk.
    role: Option<Speaker>,
}

impl Stream {
    async fn run(&mut self, job: &mut ModelJob, mut first: Option<Said>) -> Result<(), Gone> {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            let said = match first.take() {
                Some(said) => said,
                None => tokio::select! {
                    biased;
                    said = job.next() => said,
                    () = self.sender.closed() => return Err(Gone),
                    _ = heartbeat.tick() => {
                        self.send(Bytes::from_static(b": still here\n\n")).await?;
                        continue;
                    }
                },
            };
            match said {
                Said::Piece(text) => self.piece(&text).await?,
                Said::Done(answered) => return self.end(job, &answered).await,
                Said::Failed(error) => return self.fail(&error).await,
            }
        }
    }

    async fn piece(&mut self, text: &str) -> Result<(), Gone> {
        let delta = Delta { role: self.role.take(), content: Some(text) };
        self.chunk(delta, None, None, None).await
    }

    /// The rest of the text, how it ended, and the mark of the end.
    async fn end(&mut self, job: &ModelJob, answered: &Job) -> Result<(), Gone> {
        let ModelResult { choices, usage, metadata } = match result::<ModelResult<ChatChoice>>(answered) {
            Ok(result) => result,
            Err(error) => return self.fail(&error).await,
        };
        let Some(ChatChoice { message, finish_reason, .. }) = choices.into_iter().next() else {
            return self.fail(&ApiError::ai_service("The model said nothing")).await;
        };
        match job.rest(&message.content) {
            Ok("") => {}
            Ok(rest) => self.piece(rest).await?,
            Err(error) => return self.fail(&error).await,
        }
        let delta = Delta { role: self.role.take(), content: None };
        self.chunk(delta, Some(&finish_reason), Some(usage), Some(metadata)).await?;
        self.send(Bytes::from_static(b"data: [DONE]\n\n")).await
    }

    /// Why there is no more; nothing follows.
    async fn fail(&self, error: &ApiError) -> Result<(), Gone> {
        if let Some(cause) = error.cause() {
            tracing::error!(job_id = %self.id, code = error.code().as_str(), "{cause:#}");
        }
        self.event(&json!({ "error": { "code": error.code(), "message": error.message() } })).await
    }

    async fn chunk(
        &self,
        delta: Delta<'_>,
        finish_reason: Option<&str>,
        usage: Option<TokenUsage>,
        metadata: Option<Value>,
    ) -> Result<(), Gone> {
        let choices = [ChunkChoice { index: 0, delta, finish_reason }];
        let created = self.created_at.timestamp();
        self.event(&ChatChunk { id: self.id, model: &self.model, created, choices, usage, metadata }).await
    }

    async fn event(&self, data: &impl Serialize) -> Result<(), Gone> {
        let mut event = b"data: ".to_vec();
        if let Err(error) = serde_json::to_writer(&mut event, data) {
            tracing::error!(%error, "a chunk cannot be written as JSON");
            return Err(Gone);
        }
        event.extend_from_slice(b"\n\n");
        self.send(event.into()).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        match timeout(SEND, self.sender.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}
