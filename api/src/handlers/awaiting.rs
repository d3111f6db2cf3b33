//! Waiting for the end of a job: what synchronous endpoints do between accepting work and answering.
//!
//! No connection to PostgreSQL is held meanwhile.

use super::feed::Feed;
use crate::{error::ApiError, state::State};
use shared::models::Job;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// Follows one job from before it is pushed, so that its end cannot be missed.
pub(super) struct Awaited {
    job_id: Uuid,
    feed: Feed,
}

impl Awaited {
    /// Begins to listen. Call this before the job is pushed.
    pub(super) async fn listen(state: &State, job_id: Uuid) -> Self {
        Self { job_id, feed: Feed::await_new(state, job_id).await }
    }

    /// The job once it has ended. `None`: it has not within `patience`, and goes on.
    ///
    /// # Errors
    /// 503 if the process stops, or the job cannot be read.
    pub(super) async fn end(mut self, state: &State, patience: Duration) -> Result<Option<Job>, ApiError> {
        let end = async { while self.feed.next().await.is_some() {} };
        tokio::select! {
            ended = timeout(patience, end) => if ended.is_err() { return Ok(None) },
            () = state.shutdown.cancelled() => {
                return Err(ApiError::unavailable("The server stops; the work goes on, ask for it again", 2));
            }
        }
        Ok(Some(Job::get(&mut *state.conn().await?, self.job_id).await?))
    }
}
