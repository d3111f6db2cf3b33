//! Hears of cancelled jobs at once. What is missed here, the next heartbeat finds in the row.

use crate::context::{Context, StopReason};
use futures_util::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long to wait before subscribing again.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens until `end`, subscribing again whenever Redis comes back.
pub(crate) async fn listen(context: Arc<Context>, end: CancellationToken) {
    loop {
        tokio::select! {
            result = follow(&context) => if let Err(error) = result {
                tracing::debug!(%error, "not subscribed to cancellations, trying again");
            },
            () = end.cancelled() => return,
        }
        tokio::select! { () = tokio::time::sleep(PAUSE) => {}, () = end.cancelled() => return }
    }
}

async fn follow(context: &Context) -> redis::RedisResult<()> {
    let mut subscription = context.redis_client.get_async_pubsub().await?;
    subscription.subscribe(shared::events::cancel_channel(&context.prefix)).await?;
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        if let Some(job_id) = message.get_payload::<String>().ok().and_then(|text| text.parse().ok()) {
            context.running.stop(job_id, None, StopReason::Cancelled);
        }
    }
    Ok(())
}
