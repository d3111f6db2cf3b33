//! Ends jobs in the database, many in one transaction.
//!
//! An attempt that has ended leaves its [`Finish`] here and waits until it is committed. What comes in while
//! transactions are under way goes into the next one together: a lone job is written at once, and the more there are,
//! the fewer round trips and commits each of them costs.

use crate::write_error::WriteError;
use redis::aio::ConnectionManager;
use shared::{
    db::Pool,
    events::Event,
    models::{Ended, Finish, Job},
    queue::Hint,
};
use std::collections::HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Jobs in one transaction.
const MOST: usize = 100;

/// Transactions at a time: one that waits for a lock does not hold up all others.
const FLIGHTS: usize = 3;

type Answer = Result<Finished, WriteError>;

/// What became of the end of an attempt.
pub(crate) enum Finished {
    /// It is written, and listeners are to be told.
    Told(Box<Event>),
    /// It is written, and nobody listens.
    Quietly,
    /// The attempt no longer holds the job.
    Lost,
}

/// The way to the task that ends jobs.
pub(crate) struct Finisher(mpsc::Sender<Request>);

/// The task's end of the way.
pub(crate) struct Requests(mpsc::Receiver<Request>);

/// Where the ends are written, and who is told what follows from them.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) pool: Pool,
    pub(crate) redis: ConnectionManager,
    pub(crate) prefix: String,
}

struct Request {
    finish: Finish,
    answer: oneshot::Sender<Answer>,
}

/// The two ends of a new way.
pub(crate) fn new() -> (Finisher, Requests) {
    let (requests, waiting) = mpsc::channel(MOST);
    (Finisher(requests), Requests(waiting))
}

impl Finisher {
    /// Ends a job; returns when that is committed.
    pub(crate) async fn finish(&self, finish: Finish) -> Answer {
        let (answer, answered) = oneshot::channel();
        let gone = || WriteError::Unreachable("this process is ending".to_owned());
        self.0.send(Request { finish, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Requests {
    /// Writes what comes in, until `end`; what is there by then is still written.
    pub(crate) async fn run(mut self, ledger: Ledger, end: CancellationToken) {
        let mut flights = JoinSet::new();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                received = self.0.recv_many(&mut batch, MOST), if flights.len() < FLIGHTS => match received {
                    0 => break,
                    _ => { flights.spawn(write(ledger.clone(), std::mem::take(&mut batch))); }
                },
                Some(_) = flights.join_next(), if !flights.is_empty() => {}
                () = end.cancelled() => break,
            }
        }
        while let Ok(request) = self.0.try_recv() {
            batch.push(request);
        }
        flights.spawn(write(ledger, batch));
        while flights.join_next().await.is_some() {}
    }
}

async fn write(ledger: Ledger, mut requests: Vec<Request>) {
    // of two attempts at one job only the later one can hold it
    requests.sort_by_key(|request| (request.finish.id, -request.finish.attempt));
    let (mut finishes, mut answers): (Vec<Finish>, Vec<_>) = (Vec::new(), Vec::new());
    for Request { finish, answer } in requests {
        if finishes.last().is_some_and(|later| later.id == finish.id) {
            // whoever asked may be gone, here and below
            let _ = answer.send(Ok(Finished::Lost));
        } else {
            finishes.push(finish);
            answers.push(answer);
        }
    }
    match ledger.finish(&finishes).await {
        Ok((mut ended, hints)) => {
            for (finish, answer) in finishes.iter().zip(answers) {
                let _ = answer.send(Ok(ended.remove(&finish.id).unwrap_or(Finished::Lost)));
            }
            ledger.hint(&hints).await;
        }
        Err(WriteError::Refused(_)) if finishes.len() > 1 => {
            for (finish_one, answer) in finishes.iter().zip(answers) {
                let (ended, hints) = match ledger.finish(std::slice::from_ref(finish_one)).await {
                    Ok((mut ended, hints)) => (Ok(ended.remove(&finish_one.id).unwrap_or(Finished::Lost)), hints),
                    Err(error) => (Err(error), Vec::new()),
                };
                let _ = answer.send(ended);
                ledger.hint(&hints).await;
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

impl Ledger {
    /// Ends jobs in one transaction: those that ended, and the jobs that follow.
    async fn finish(&self, finishes: &[Finish]) -> Result<(HashMap<Uuid, Finished>, Vec<Hint>), WriteError> {
        if finishes.is_empty() {
            return Ok((HashMap::new(), Vec::new()));
        }
        let Ended { events, quiet, hints } = Job::finish(&mut *self.pool.get().await?, finishes).await?;
        let told = events.into_iter().map(|event| (event.job_id, Finished::Told(Box::new(event))));
        Ok((told.chain(quiet.into_iter().map(|id| (id, Finished::Quietly))).collect(), hints))
    }

    /// Tells Redis of jobs that followed; a lost hint is repaired by the scheduler.
    async fn hint(&self, hints: &[Hint]) {
        if !hints.is_empty()
            && let Err(error) = Hint::push(hints, &self.redis, &self.prefix).await
        {
            tracing::debug!(%error, "jobs that followed were not pushed");
        }
    }
}
