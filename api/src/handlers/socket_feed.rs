//! The events of one job, each once and in order, out of two sources: the table, which has them all, and Redis, which
//! is fast and may lose some.

use diesel::OptionalExtension;
use shared::{
    db::Pool,
    events::Event,
    models::{Job, JobEvent},
};
use uuid::Uuid;

/// Events read at once; a job over a hundred images has about a thousand.
const PAGE: i64 = 200;

/// How far a listener is.
pub(super) struct Feed {
    pool: Pool,
    job_id: Uuid,
    /// Number of the last event that was handed out.
    last: i32,
}

/// What to do with an event that came through Redis.
#[derive(Debug)]
pub(super) enum Live {
    /// Hand it out: it is the next one.
    Next(Event),
    /// Nothing: it was handed out before, or is not readable.
    Old,
    /// Look into the table: something before it is missing.
    Gap,
}

/// What is stored beyond the last event that was handed out.
#[derive(Debug)]
pub(super) enum Stored {
    /// These, oldest first; there may be more.
    Events(Vec<Event>),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come: the job has ended or is gone.
    Ended,
}

impl Feed {
    /// Begins after event number `last`. Whoever calls this has made sure that the listener may know the job.
    pub(super) const fn new(pool: Pool, job_id: Uuid, last: i32) -> Self {
        Self { pool, job_id, last }
    }

    /// Reads the next page of stored events. While there is nothing new this is a look at one row.
    pub(super) async fn read(&mut self) -> anyhow::Result<Stored> {
        let mut conn = self.pool.get().await?;
        let Some(job) = Job::get(&mut conn, self.job_id).await.optional()? else { return Ok(Stored::Ended) };
        if job.last_seq > self.last {
            let events = JobEvent::list_after(&mut conn, self.job_id, self.last, PAGE).await?;
            if let Some(newest) = events.last() {
                self.last = newest.seq;
                return Ok(Stored::Events(events));
            }
        }
        Ok(if job.status.is_final() { Stored::Ended } else { Stored::Nothing })
    }

    /// Places an event that came through Redis.
    pub(super) fn place(&mut self, message: &[u8]) -> Live {
        let Ok(event) = serde_json::from_slice::<Event>(message) else { return Live::Old };
        if event.job_id != self.job_id || event.seq <= self.last {
            Live::Old
        } else if event.seq == self.last + 1 {
            self.last = event.seq;
            Live::Next(event)
        } else {
            Live::Gap
        }
    }
}
