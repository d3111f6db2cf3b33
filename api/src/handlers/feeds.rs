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

    /// The source of a job, made if there is none. `from`: the last event that the listener has; `None` if a request
    /// waits for a job that is not stored yet.
    pub(super) fn listen(
        &self,
        state: &State,
        job_id: Uuid,
        from: Option<i32>,
    ) -> (Arc<Source>, watch::Receiver<News>) {
        let (source, news, is_new) = {
            let mut followed = self.lock();
            let known = followed.get(&job_id).cloned();
            let is_new = known.is_none();
            let source = known.unwrap_or_else(|| Arc::new(Source::new(job_id)));
            // before the lock is given back: a source without listeners is forgotten
            let news = source.news.subscribe();
            if is_new {
                followed.insert(job_id, Arc::clone(&source));
            }
            (source, news, is_new)
        };
        if from.is_none() {
            source.hurry();
        }
        if is_new {
            self.begin(state, &source, from);
        }
        (source, news)
    }

    fn begin(&self, state: &State, source: &Arc<Source>, from: Option<i32>) {
        let reader = Reader {
            source: Arc::clone(source),
            pool: state.pool.clone(),
            hub: state.live.clone(),
            channel: events::channel(&state.config.redis.prefix, source.job_id),
            heads: self.heads.clone(),
            from,
            is_stored: from.is_some(),
            last: 0,
        };
        let feeds = Arc::clone(&state.feeds);
        let ended = Ended { feeds: Arc::clone(&feeds), source: Arc::clone(source) };
        state.spawn(async move {
            let _ended = ended;
            reader.run(&feeds).await;
        });
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

    /// Whoever comes from now on gets a source of its own; those who listen to this one have what there is in it.
    fn retire(&self, source: &Arc<Source>) {
        let mut followed = self.lock();
        if followed.get(&source.job_id).is_some_and(|known| Arc::ptr_eq(known, source)) {
            followed.remove(&source.job_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Source>>> {
        // nothing panics while it is held
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets nobody wait for a source that gathers nothing any more, however its task has ended.
struct Ended {
    feeds: Arc<Feeds>,
    source: Arc<Source>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.feeds.retire(&self.source);
        self.source.end();
    }
}
