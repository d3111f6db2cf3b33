//! Threads with a state of their own, fed from the async side.
//!
//! Work reaches the threads over a bounded channel: when all are busy, callers wait, and nothing piles up. Work whose caller
//! has gone away (cancelled, timed out) is dropped unstarted. Work that panics fails its own caller; its thread goes on.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Work that may wait for a thread, for each thread.
const WAITING_PER_THREAD: usize = 2;

type Work<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A handle on the threads. Dropping it ends them after the work in progress.
pub(super) struct Pool<S> {
    work: mpsc::Sender<Work<S>>,
    /// Every thread holds a sender; the channel closes when the last has ended.
    running: mpsc::Receiver<Infallible>,
}

impl<S> std::fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("places_left", &self.work.capacity()).finish_non_exhaustive()
    }
}

/// Why work gave no answer.
#[derive(Debug, Error)]
pub(super) enum Lost {
    /// With the panic's message.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The threads have ended.
    #[error("stopped")]
    Stopped,
}

impl<S: 'static> Pool<S> {
    /// Starts `threads` threads and returns once each has loaded its state; the first failure is returned instead, and the
    /// threads already started end by themselves. `on_lost` turns a thread that could not start into the caller's error.
    pub(super) async fn start<E: Send + 'static>(
        name: &str,
        threads: usize,
        load: impl Fn() -> Result<S, E> + Send + Sync + 'static,
        on_lost: impl Fn(String) -> E,
    ) -> Result<Self, E> {
        let (work, incoming) = mpsc::channel::<Work<S>>(threads * WAITING_PER_THREAD);
        let (alive, running) = mpsc::channel(1);
        let incoming = Arc::new(Mutex::new(incoming));
        let load = Arc::new(load);
        let mut ready = Vec::with_capacity(threads);
        for number in 0..threads {
            let (tell, told) = oneshot::channel();
            let (incoming, alive, load) = (Arc::clone(&incoming), alive.clone(), Arc::clone(&load));
            let body = move || {
                let _alive = alive;
                match load() {
                    Ok(state) => {
                        // Nobody listens when another thread failed to start; then there is no work either.
                        let _listened = tell.send(Ok(()));
                        serve(state, &incoming);
                    }
                    Err(error) => {
                        let _listened = tell.send(Err(error));
                    }
                }
            };
            let spawned = std::thread::Builder::new().name(format!("{name}-{number}")).spawn(body);
            spawned.map_err(|error| on_lost(error.to_string()))?;
            ready.push(told);
        }
        for told in ready {
            told.await.map_err(|_| on_lost("it panicked while starting".to_owned()))??;
        }
        Ok(Self { work, running })
    }

    /// Runs a piece of work on the next free thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        let work: Work<S> = Box::new(move |state| {
            if answer.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| step(state)));
            // The caller may have gone away meanwhile.
            let _received = answer.send(result.map_err(|panic| Lost::Panicked(panic_text(panic.as_ref()))));
        });
        self.work.send(work).await.map_err(|_| Lost::Stopped)?;
        answered.await.map_err(|_| Lost::Stopped)?
    }

    /// Takes no more work, and returns when every thread has ended.
    pub(super) async fn stop(self) {
        let Self { work, mut running } = self;
        drop(work);
        while running.recv().await.is_some() {}
    }
}

/// Takes work until the channel is closed. One idle thread waits in the channel, the others wait for its place.
fn serve<S>(mut state: S, incoming: &Mutex<mpsc::Receiver<Work<S>>>) {
    loop {
        let next = incoming.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match next {
            Some(work) => work(&mut state),
            None => return,
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
