//! Every job that is followed in this process, each by one task however many listen.

use super::{
    feed_reader::Reader,
    feed_source::{News, Source},
};
use crate::state::State;
use futures_util::future::{BoxFuture, FutureExt};
use shared::{db::Pool, events, grouped::Grouped, models::JobHead};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

/// Looks at jobs: queries at a time, and jobs in one of them.
const FLIGHTS: usize = 2;
const MOST: usize = 256;

/// How long such a query may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// Every job that is followed in this process.
pub(crate) struct Feeds {
    followed: Mutex<HashMap<Uuid, Arc<Source>>>,
    heads: Grouped<Uuid, JobHead>,
    /// Until it is run.
    work: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Feeds {
    /// Nothing is read until [`Feeds::run`] runs.
    pub(crate) fn new(pool: &Pool) -> Self {
        let pool = pool.clone();
        let (heads, work) = Grouped::new(FLIGHTS, MOST, move |ids: Vec<Uuid>| {
            let pool = pool.clone();
            let load = async move { Ok(JobHead::list(&mut *pool.get().await?, &ids).await?) };
            async move { timeout(PATIENCE, load).await? }
        });
        Self { followed: Mutex::default(), heads, work: Mutex::new(Some(work.boxed())) }
    }

    /// Looks at jobs; to be stopped when nobody follows one any more.
    pub(crate) fn run(&self) -> BoxFuture<'static, ()> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.unwrap_or_else(|| futures_util::future::ready(()).boxed())
    }

    /// The source of a job, made if there is none. `from`: the last event that the listener has; `None` if a request waits
    /// for a job that is not stored yet.
    pub(super) fn listen(
        &self,
        state: &State,
        job_id: Uuid,
        from: Option<i32>,
    ) -> (Arc<Source>, watch::Receiver<News>) {
        let mut followed = self.lock();
        let source = followed.entry(job_id).or_insert_with(|| {
            let source = Arc::new(Source::new(job_id));
            let reader = Reader {
                source: Arc::clone(&source),
                pool: state.pool.clone(),
                hub: state.live.clone(),
                channel: events::channel(&state.config.redis.prefix, job_id),
                heads: self.heads.clone(),
                from,
                is_stored: from.is_some(),
                last: 0,
            };
            let feeds = Arc::clone(&state.feeds);
            state.sockets.spawn(async move { reader.run(&feeds).await });
            source
        });
        if from.is_none() {
            source.hurry();
        }
        // before the lock is given back: a source without listeners is forgotten
        (Arc::clone(source), source.news.subscribe())
    }

    /// Forgets a source, unless somebody listens to it.
    pub(super) fn forget(&self, source: &Source) -> bool {
        let mut followed = self.lock();
        let unheard = source.news.receiver_count() == 0;
        if unheard {
            followed.remove(&source.job_id);
        }
        unheard
    }

    /// Whoever comes from now on gets a source of its own; those who listen to this one have what they need.
    pub(super) fn retire(&self, job_id: Uuid) {
        self.lock().remove(&job_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Source>>> {
        // nothing panics while it is held
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
