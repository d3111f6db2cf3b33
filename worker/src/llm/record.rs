//! The records of calls in the database. It may be away for a moment: what an answer has cost is not thrown away for that.

use super::Answer;
use crate::{
    outcome::Stop,
    reporter::Reporter,
    write_error::{Pauses, WriteError},
};
use shared::{
    db::Pool,
    models::{CallStatus, Closing, LlmCall, Outgoing, Reserved},
};
use tokio_util::task::TaskTracker;

/// The writes of answers that are under way. An attempt that is stopped between an answer and its record does not take the
/// record with it.
#[derive(Default)]
pub(super) struct Records(TaskTracker);

/// The answer that an earlier attempt got to the same request.
pub(super) async fn find(reporter: &Reporter<'_>, call: &str, hash: &[u8]) -> Result<Option<Answer>, Stop> {
    let mut pauses = Pauses::new();
    let record = loop {
        let found = async { Ok(LlmCall::find(&mut *reporter.context.pool.get().await?, reporter.job_id, call).await?) };
        match found.await {
            Err(error @ WriteError::Unreachable(_)) => {
                tracing::warn!(%error, "the record of a call is not read, trying again");
                pauses.pause().await;
            }
            known => break known?,
        }
    };
    let answered = |record: &LlmCall| record.status == CallStatus::Completed && record.request_hash == hash;
    // a record that no longer reads (its form changed with an upgrade) counts as none
    let answer = record
        .filter(answered)
        .and_then(|record| record.answer)
        .and_then(|answer| serde_json::from_value::<Answer>(answer).ok());
    Ok(answer.map(|answer| Answer { recorded: true, ..answer }))
}

/// Records a call that is about to go out, and holds what it may cost.
pub(super) async fn reserve(reporter: &Reporter<'_>, outgoing: &Outgoing<'_>) -> Result<Reserved, Stop> {
    let mut pauses = Pauses::new();
    loop {
        let reserved = async { Ok(LlmCall::reserve(&mut *reporter.context.pool.get().await?, outgoing).await?) };
        match reserved.await {
            Err(error @ WriteError::Unreachable(_)) => {
                tracing::warn!(%error, "a call is not recorded, trying again");
                pauses.pause().await;
            }
            known => return Ok(known?),
        }
    }
}

impl Records {
    /// Writes down what became of a call.
    pub(super) async fn close(&self, reporter: &Reporter<'_>, closing: Closing) -> Result<(), Stop> {
        let written = self.0.spawn(write(reporter.context.pool.clone(), closing));
        let interrupted = |_| WriteError::Unreachable("this process is ending".to_owned());
        if written.await.map_err(interrupted)?? { Ok(()) } else { Err(Stop::Lost) }
    }

    /// Waits until nothing is under way.
    pub(super) async fn settled(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

async fn write(pool: Pool, closing: Closing) -> Result<bool, WriteError> {
    let mut pauses = Pauses::new();
    loop {
        let closed = async { Ok(LlmCall::close(&mut *pool.get().await?, &closing).await?) };
        match closed.await {
            Err(error @ WriteError::Unreachable(_)) => {
                tracing::warn!(%error, "the end of a call is not written, trying again");
                pauses.pause().await;
            }
            known => return known,
        }
    }
}
