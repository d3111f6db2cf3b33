//! Parts of the system that run inside the test's process, and waiting for what they do.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything in a test may take before the test says what it waited for. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A part of the system that runs inside the test's process. Dropping it stops it.
pub struct Running {
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

/// An API inside the test's process.
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// Stops it.
    pub running: Running,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the handle is kept, and waited for by `stop`")]
    pub(crate) fn start<F>(run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(shutdown.clone()));
        Self { shutdown, task: Some(task) }
    }

    /// Stops it in good order and waits for its end.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Looks again and again until `look` finds something; says what it waited for when its patience ends.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
    }
}
