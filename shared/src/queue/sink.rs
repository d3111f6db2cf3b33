//! Pushing through the `Sink` interface apalis and `futures` speak.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use apalis_core::backend::future::BoxSyncFuture;
use apalis_core::task::Task;
use futures_util::{FutureExt, Sink};

use super::{CHUNK, Queue, QueueError, Ticket};

/// Collects tickets and pushes them in calls of up to 200. What was sent is in the queue after a flush.
pub struct TicketSink {
    queue: Queue,
    tickets: Vec<Ticket>,
    pushing: Option<BoxSyncFuture<Result<usize, QueueError>>>,
}

impl Queue {
    /// A sink for tickets. It may be given tickets from any number of tenants.
    pub fn sink(&self) -> TicketSink {
        TicketSink { queue: self.clone(), tickets: Vec::new(), pushing: None }
    }
}

impl Sink<Task<Ticket>> for TicketSink {
    type Error = QueueError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        if self.tickets.len() < CHUNK { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, task: Task<Ticket>) -> Result<(), QueueError> {
        self.tickets.push(task.args);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        let this = self.get_mut();
        loop {
            if let Some(pushing) = this.pushing.as_mut() {
                let pushed = ready!(pushing.poll_unpin(cx));
                this.pushing = None;
                if let Err(error) = pushed {
                    return Poll::Ready(Err(error));
                }
            }
            if this.tickets.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (queue, tickets) = (this.queue.clone(), std::mem::take(&mut this.tickets));
            this.pushing = Some(async move { queue.push(&tickets).await }.boxed().into());
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        self.poll_flush(cx)
    }
}
