//! An answer that comes piece by piece: passed on as it comes, and kept at its end.

use super::{Kept, Wanted, forget, is_event_stream};
use actix_web::{
    HttpResponse,
    body::{BodyStream, BoxBody, MessageBody},
    web::{Bytes, BytesMut},
};
use futures_util::stream::unfold;
use std::{future::poll_fn, pin::Pin};

/// Longest stream that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// What ends a whole stream of events; one without it has failed on its way.
const END: &[u8] = b"data: [DONE]\n\n";

type BodyError = Box<dyn std::error::Error>;

/// A stream on its way. If it is dropped before its end, the client has gone, and the key is given up.
pub(super) struct Relay {
    wanted: Option<Wanted>,
    kept: Kept,
    body_hash: Option<Vec<u8>>,
    body: BoxBody,
    passed: BytesMut,
    is_too_long: bool,
    is_event_stream: bool,
}

impl Relay {
    /// Passes the body of a response on.
    pub(super) fn begin(wanted: Wanted, body_hash: Option<Vec<u8>>, response: HttpResponse) -> HttpResponse {
        let (kept, is_event_stream) = (Kept::new(&response, &wanted.request_id), is_event_stream(&response));
        response
            .map_body(|_, body| {
                let passed = BytesMut::new();
                let wanted = Some(wanted);
                let relay = Self { wanted, kept, body_hash, body, passed, is_too_long: false, is_event_stream };
                BodyStream::new(Box::pin(unfold(relay, Self::next)))
            })
            .map_into_boxed_body()
    }

    async fn next(mut self) -> Option<(Result<Bytes, BodyError>, Self)> {
        let Some(next) = poll_fn(|context| Pin::new(&mut self.body).poll_next(context)).await else {
            self.finish().await;
            return None;
        };
        if let Ok(chunk) = &next
            && !self.is_too_long
        {
            self.is_too_long = self.passed.len() + chunk.len() > LONGEST;
            self.passed.extend_from_slice(chunk);
        }
        Some((next, self))
    }

    /// Keeps what was passed on, before the client learns that it was all.
    async fn finish(&mut self) {
        let Some(wanted) = self.wanted.take() else { return };
        let passed = std::mem::take(&mut self.passed).freeze();
        if self.is_event_stream && !self.is_too_long && !passed.ends_with(END) {
            forget(&wanted.state, &wanted.key).await;
        } else if self.is_too_long {
            tracing::warn!("a stream is too long to be kept for its Idempotency-Key");
        } else {
            wanted.keep(&self.kept, self.body_hash.as_deref(), &passed).await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            let tasks = wanted.state.requests.clone();
            tasks.spawn(async move { forget(&wanted.state, &wanted.key).await });
        }
    }
}
