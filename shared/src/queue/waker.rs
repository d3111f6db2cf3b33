//! Listens for pushes, so that an idle worker starts a job at once instead of at its next look.
//!
//! The connection is its own and is made again for ever. A message that gets lost costs at most one poll interval.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{Client, ErrorKind, RedisError, RedisResult};
use tokio::time::timeout;

use super::backoff::Backoff;
use super::lease::Consumer;

/// A peer that vanished without closing the connection is found out this way.
const PING_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn run(consumer: Arc<Consumer>) {
    let mut backoff = Backoff::for_redis();
    loop {
        if let Err(error) = listen(&consumer, &consumer.options.client, &mut backoff).await {
            tracing::warn!(queue = consumer.queue.name(), %error, "wake-ups interrupted, connecting again");
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}

async fn listen(consumer: &Consumer, client: &Client, backoff: &mut Backoff) -> RedisResult<()> {
    let (mut commands, mut messages) = in_time(client.get_async_pubsub()).await?.split();
    in_time(commands.subscribe(consumer.queue.keys.wake())).await?;
    backoff.reset();
    // What was pushed before the subscription stood has called nobody.
    consumer.wake.notify_one();
    loop {
        match timeout(PING_EVERY, messages.next()).await {
            Ok(Some(_)) => consumer.wake.notify_one(),
            Ok(None) => {
                return Err(RedisError::from((ErrorKind::Io, "the connection was closed")));
            }
            Err(_) => {
                in_time(commands.ping::<redis::Value>()).await?;
            }
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "no answer within 5 s"))))
}
