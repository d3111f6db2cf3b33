//! The middleware that ends a lease when its handler ends, however it ends.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::into_response::IntoResponse;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower::{Layer, Service};

use super::lease::{Consumer, Lease};

/// How long a job whose handler failed without deciding anything (timeout, panic, error) stays out of sight. Its row
/// says what happens to it; the queue only must not spin on it.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What becomes of the job in Redis. What becomes of it in Postgres is decided before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Forget the job: it is finished, or it was pushed again with its next `run_at`.
    Done,
    /// Bring the job back after this time; at once, and in front, if it is zero.
    Release {
        /// Counted from the moment Redis hears of it.
        after: Duration,
    },
}

impl Ack {
    /// Hand the job back untouched.
    pub const HAND_BACK: Self = Self::Release { after: Duration::ZERO };
}

impl IntoResponse for Ack {
    type Output = Self;

    fn into_response(self) -> Result<Self, BoxDynError> {
        Ok(self)
    }
}

/// Settles each job's lease by the [`Ack`] its handler returns.
#[derive(Clone)]
pub struct AckLayer {
    consumer: Arc<Consumer>,
}

impl AckLayer {
    pub(super) fn new(consumer: Arc<Consumer>) -> Self {
        Self { consumer }
    }
}

impl<S> Layer<S> for AckLayer {
    type Service = AckService<S>;

    fn layer(&self, inner: S) -> AckService<S> {
        AckService { inner, consumer: self.consumer.clone() }
    }
}

/// The service made by [`AckLayer`].
#[derive(Clone)]
pub struct AckService<S> {
    inner: S,
    consumer: Arc<Consumer>,
}

impl<S, T> Service<Task<T>> for AckService<S>
where
    S: Service<Task<T>, Response = Ack>,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError>,
{
    type Response = Ack;
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<Ack, BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<T>) -> Self::Future {
        let mut guard = Guard { consumer: self.consumer.clone(), lease: task.data().get::<Lease>().copied() };
        let handler = self.inner.call(task);
        async move {
            let result = handler.await.map_err(Into::into);
            guard.settle(match &result {
                Ok(ack) => *ack,
                Err(_) => Ack::Release { after: AFTER_ERROR },
            });
            result
        }
        .boxed()
    }
}

/// Hands the job back if the handler's future is dropped before it ended.
struct Guard {
    consumer: Arc<Consumer>,
    lease: Option<Lease>,
}

impl Guard {
    fn settle(&mut self, ack: Ack) {
        if let Some(lease) = self.lease.take() {
            self.consumer.settle(lease, ack);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.settle(Ack::HAND_BACK);
    }
}

/// An executor for apalis' `parallelize`: each handler a tokio task of its own, aborted when the worker drops it (a bare
/// `tokio::spawn` would let it run on after its job was handed back). `tasks` lets the owner wait for the last of them.
pub fn spawn_handlers<F>(
    tasks: TaskTracker,
) -> impl Fn(F) -> AbortOnDropHandle<F::Output> + Clone + Send + Sync + 'static
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    move |handler| AbortOnDropHandle::new(tasks.spawn(handler))
}
