//! The producer half.

use std::future::ready;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use metrics::counter;

use super::scripts::PushRow;
use super::{CHUNK, Priority, Queue, QueueError, Ticket, scripts};

/// How many calls of one push are on their way at the same time.
const IN_FLIGHT: usize = 8;

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
