//! The producer half.

use std::{collections::BTreeMap, future::ready};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use metrics::counter;
use redis::aio::ConnectionManager;

use super::scripts::PushRow;
use super::{CHUNK, Priority, Queue, QueueError, Ticket, scripts};

/// How many calls of one push are on their way at the same time.
const IN_FLIGHT: usize = 8;

/// A committed job that Redis is to be told of. Losing it costs time and nothing else: the scheduler tells Redis again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Where it waits.
    pub queue: &'static str,
    /// The job.
    pub ticket: Ticket,
}

impl Hint {
    /// Tells Redis of jobs of any queues.
    ///
    /// # Errors
    /// The first queue that could not be told; the others were told all the same.
    pub async fn push(hints: &[Self], conn: &ConnectionManager, prefix: &str) -> Result<(), QueueError> {
        let mut queues: BTreeMap<&str, Vec<Ticket>> = BTreeMap::new();
        for hint in hints {
            queues.entry(hint.queue).or_default().push(hint.ticket.clone());
        }
        let pushes = queues.into_iter().map(|(name, tickets)| async move {
            Queue::new(conn.clone(), prefix, name).push(&tickets).await.map(drop)
        });
        join_all(pushes).await.into_iter().collect()
    }
}

impl Queue {
    /// Makes jobs known to the workers and returns how many were new.
    ///
    /// Idempotent by id for as long as the job is ready, delayed or leased, so a caller that is not sure pushes again.
    /// A known job keeps its place, with two exceptions: a delayed one moves forward if the ticket is due earlier, and a
    /// leased one comes back at the ticket's time once its worker acks it.
    pub async fn push(&self, tickets: &[Ticket]) -> Result<usize, QueueError> {
        let new = match tickets.len() {
            0 => 0,
            1..=CHUNK => self.push_chunk(tickets).await?,
            _ => {
                let chunks: Vec<_> = tickets.chunks(CHUNK).map(|chunk| self.push_chunk(chunk)).collect();
                stream::iter(chunks).buffered(IN_FLIGHT).try_fold(0, |sum, new| ready(Ok(sum + new))).await?
            }
        };
        if new > 0 {
            counter!("atelier_queue_pushed_total", "queue" => self.name.clone()).increment(new as u64);
        }
        Ok(new)
    }

    async fn push_chunk(&self, tickets: &[Ticket]) -> Result<usize, QueueError> {
        let rows: Vec<PushRow> = tickets.iter().map(PushRow::from).collect();
        scripts::push(&mut self.conn.clone(), &self.keys, &rows).await.map_err(|source| self.error(source))
    }
}

impl From<&Ticket> for PushRow {
    fn from(ticket: &Ticket) -> Self {
        let mut meta = Vec::with_capacity(22);
        meta.extend_from_slice(ticket.tenant.as_bytes());
        meta.push(match ticket.priority {
            Priority::Interactive => b'0',
            Priority::Default => b'1',
            Priority::Bulk => b'2',
        });
        meta.extend_from_slice(ticket.weight.max(1).to_string().as_bytes());
        Self { id: ticket.id, meta, due: ticket.run_at.map_or(0, due_millis) }
    }
}

/// Rounded up: a job that becomes due in Redis must be due in Postgres, which counts microseconds, as well.
fn due_millis(at: DateTime<Utc>) -> i64 {
    let floor = at.timestamp_millis();
    let rest = at.timestamp_subsec_nanos() % 1_000_000;
    (if rest > 0 { floor.saturating_add(1) } else { floor }).max(0)
}
