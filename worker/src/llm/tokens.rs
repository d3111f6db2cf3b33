//! Publishes the pieces of an answer as they come.
//!
//! One publication is under way at a time. What comes meanwhile goes into the next one together: a piece that comes alone
//! leaves at once, and a slow Redis gets fewer and longer pieces.

use crate::context::Context;
use redis::AsyncCommands;
use shared::{
    events::{self, Tokens},
    models::Job,
};
use std::time::{Duration, Instant};
use tokio::{pin, sync::mpsc, time::timeout};

/// Bytes that may wait while a publication is under way; more have to wait at the provider.
const WAITING: usize = 64 * 1024;

/// How long Redis may take for one publication. After a longer one nothing more is published: the stored result is there
/// for those who listen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Text that waits to be published.
#[derive(Default)]
struct Waiting {
    text: String,
    /// When the first piece of it came.
    since: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, piece: &str) {
        self.since.get_or_insert_with(Instant::now);
        self.text.push_str(piece);
    }
}

/// Publishes what comes in until nothing more does.
pub(crate) async fn publish(context: &Context, job: &Job, mut pieces: mpsc::Receiver<String>) {
    let channel = events::tokens_channel(&context.prefix, job.id);
    let mut waiting = Waiting::default();
    let mut offset = 0;
    let mut is_whole = true;
    loop {
        if waiting.text.is_empty() {
            match pieces.recv().await {
                Some(piece) => waiting.add(&piece),
                None => return,
            }
        }
        let Waiting { text, since } = std::mem::take(&mut waiting);
        let length = text.len();
        if is_whole {
            let going = publish_one(context, &channel, Tokens { attempt: job.attempt, offset, text });
            pin!(going);
            let mut is_open = true;
            is_whole = loop {
                tokio::select! {
                    biased;
                    published = &mut going => break published,
                    piece = pieces.recv(), if is_open && waiting.text.len() < WAITING => match piece {
                        Some(piece) => waiting.add(&piece),
                        None => is_open = false,
                    },
                }
            };
            if let Some(since) = since {
                metrics::histogram!("atelier_token_publish_seconds").record(since.elapsed());
            }
        }
        offset += length;
    }
}

async fn publish_one(context: &Context, channel: &str, tokens: Tokens) -> bool {
    let Ok(message) = serde_json::to_string(&tokens) else { return false };
    let mut redis = context.redis.clone();
    match timeout(PATIENCE, redis.publish::<_, _, i64>(channel, message)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "tokens are not published");
            false
        }
        Err(_) => {
            tracing::debug!("tokens are not published in time");
            false
        }
    }
}
