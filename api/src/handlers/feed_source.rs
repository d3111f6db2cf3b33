//! Where the listeners of one job get its events from: one task for a job and process. It takes them from two sources, the
//! table, which has them all, and Redis, which is fast and may lose some, and keeps the newest in memory.
//!
//! The task subscribes first, reads the stored events second and takes live ones third, so nothing is missed. A gap in the
//! numbers, a connection to Redis that broke, or a few seconds make it look into the table again. It ends with its last
//! listener.

use super::feed::PAGE;
use crate::{
    live::{Hub, Live},
    state::State,
};
use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use shared::{
    db::Pool,
    events::{self, Change, Event},
    grouped::Grouped,
    models::{JobEvent, JobHead},
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{self, Instant, MissedTickBehavior},
};
use uuid::Uuid;

/// How often the table is looked at even if nothing is heard, where a request waits: it is short, and so is its client's
/// patience.
const POLL: Duration = Duration::from_secs(1);

/// The same where nobody but sockets and streams listens, in these ticks.
const PATIENT: u32 = 3;

/// Events of one job that are kept, and how many bytes of JSON they may be together.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 1 << 20;

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

/// How far the events of a job are known here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct News {
    /// Number of the newest event.
    pub(super) last: i32,
    /// Nothing will follow.
    pub(super) over: bool,
    /// Whatever is published from now on is heard.
    pub(super) hears: bool,
}

/// One job that is followed.
pub(super) struct Source {
    pub(super) job_id: Uuid,
    kept: Mutex<Kept>,
    news: watch::Sender<News>,
    /// Somebody waits for the end with a request.
    hurried: AtomicBool,
}

/// The newest events, without gaps.
#[derive(Default)]
struct Kept {
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    /// Number of the event before the oldest one that is kept.
    before_first: i32,
}

impl Feeds {
    /// Nothing is read until [`Feeds::run`] runs.
    pub(crate) fn new(pool: &Pool) -> Self {
        let pool = pool.clone();
        let (heads, work) = Grouped::new(FLIGHTS, MOST, move |ids: Vec<Uuid>| {
            let pool = pool.clone();
            let load = async move { Ok(JobHead::list(&mut *pool.get().await?, &ids).await?) };
            async move { time::timeout(PATIENCE, load).await? }
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
            let source = Arc::new(Source {
                job_id,
                kept: Mutex::default(),
                news: watch::Sender::new(News::default()),
                hurried: AtomicBool::new(from.is_none()),
            });
            let reader = Reader {
                source: Arc::clone(&source),
                pool: state.pool.clone(),
                hub: state.live.clone(),
                channel: events::channel(&state.config.redis.prefix, job_id),
                heads: self.heads.clone(),
                may_come: from.is_none(),
                last: 0,
            };
            let feeds = Arc::clone(&state.feeds);
            state.sockets.spawn(async move { reader.run(&feeds, from).await });
            source
        });
        if from.is_none() {
            source.hurried.store(true, Ordering::Relaxed);
        }
        // before the lock is given back: a source without listeners is forgotten
        (Arc::clone(source), source.news.subscribe())
    }

    /// Forgets a source, unless somebody listens to it.
    fn forget(&self, source: &Source) -> bool {
        let mut followed = self.lock();
        let unheard = source.news.receiver_count() == 0;
        if unheard {
            followed.remove(&source.job_id);
        }
        unheard
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Source>>> {
        // nothing panics while it is held
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Kept events after number `last`, at most a page. `None`: the next one is not kept any more.
    pub(super) fn after(&self, last: i32) -> Option<Vec<Arc<Event>>> {
        let kept = self.lock();
        let passed = usize::try_from(last - kept.before_first).ok()?;
        let page = kept.events.iter().skip(passed).take(PAGE.unsigned_abs() as usize);
        Some(page.map(|(event, _)| Arc::clone(event)).collect())
    }

    /// Number of the event before the oldest one that is kept.
    pub(super) fn before_first(&self) -> i32 {
        self.lock().before_first
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in events that follow each other and what is known already, and tells the listeners.
    fn take_in(&self, events: Vec<(Event, usize)>) {
        let mut told = *self.news.borrow();
        {
            let mut kept = self.lock();
            for (event, bytes) in events {
                told.last = event.seq;
                told.over = matches!(event.body.change, Change::JobFinished { .. });
                kept.push(event, bytes);
            }
        }
        self.news.send_modify(|news| (news.last, news.over) = (told.last, told.over));
    }

    fn end(&self) {
        self.news.send_modify(|news| news.over = true);
    }
}

impl Kept {
    fn push(&mut self, event: Event, bytes: usize) {
        self.events.push_back((Arc::new(event), bytes));
        self.bytes += bytes;
        while self.events.len() > KEPT || (self.bytes > KEPT_BYTES && self.events.len() > 1) {
            let Some((oldest, bytes)) = self.events.pop_front() else { break };
            self.bytes -= bytes;
            self.before_first = oldest.seq;
        }
    }
}

/// What to do with an event that came through Redis.
#[derive(Debug)]
enum Placed {
    /// It is the next one.
    Next(Event),
    /// It is known, or not readable.
    Old,
    /// Something before it is missing.
    Gap,
}

/// The task behind a source.
struct Reader {
    source: Arc<Source>,
    pool: Pool,
    hub: Hub,
    channel: String,
    heads: Grouped<Uuid, JobHead>,
    /// The job may not be stored yet.
    may_come: bool,
    /// Number of the newest event that was taken in.
    last: i32,
}

impl Reader {
    /// Gathers events until the job has ended or nobody listens.
    async fn run(mut self, feeds: &Feeds, from: Option<i32>) {
        let mut live = self.hub.subscribe(&self.channel).await;
        let (mut live_is_open, mut quiet) = (true, 0);
        self.source.news.send_modify(|news| news.hears = true);
        let mut poll = time::interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // of what is not stored yet there is nothing to read
        let mut due = from.is_some();
        let mut begin = from;
        while !self.source.news.borrow().over {
            if due {
                match self.read(&mut begin).await {
                    Ok(more) => due = more,
                    Err(error) => {
                        let job_id = self.source.job_id;
                        tracing::debug!(%error, %job_id, "stored events could not be read; trying again");
                        due = false;
                    }
                }
                quiet = 0;
                continue;
            }
            tokio::select! {
                message = live.receiver.recv(), if live_is_open => match message {
                    Ok(Live::Message(message)) => match self.place(&message) {
                        Placed::Next(event) => self.take_in(vec![(event, message.len())]),
                        Placed::Old => {}
                        Placed::Gap => due = true,
                    },
                    Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => due = true,
                    Err(RecvError::Closed) => live_is_open = false,
                },
                _ = poll.tick() => {
                    quiet += 1;
                    due = quiet >= PATIENT || self.source.hurried.load(Ordering::Relaxed);
                }
                () = self.source.news.closed() => if feeds.forget(&self.source) { return },
            }
        }
        // whoever comes from now on gets a source of its own; those who listen have what they need in this one
        feeds.lock().remove(&self.source.job_id);
    }

    /// Reads the next page of stored events; whether there may be more. While there is nothing new this is a look at one row,
    /// together with all other looks of the moment.
    async fn read(&mut self, begin: &mut Option<i32>) -> anyhow::Result<bool> {
        let Some(head) = self.heads.find(self.source.job_id).await? else {
            if !self.may_come {
                self.source.end();
            }
            return Ok(false);
        };
        self.may_come = false;
        if let Some(from) = begin.take() {
            // nobody has asked for what is before
            self.last = from.min(head.last_seq);
            self.source.lock().before_first = self.last;
            // who has, reads it
            self.source.news.send_modify(|news| news.last = self.last);
        }
        if head.last_seq > self.last {
            let events =
                JobEvent::list_after(&mut *self.pool.get().await?, self.source.job_id, self.last, PAGE).await?;
            if !events.is_empty() {
                let sized = |event| (size(&event), event);
                self.take_in(events.into_iter().map(sized).map(|(bytes, event)| (event, bytes)).collect());
                return Ok(true);
            }
        }
        if head.status.is_final() {
            self.source.end();
        }
        Ok(false)
    }

    fn take_in(&mut self, events: Vec<(Event, usize)>) {
        if let Some((newest, _)) = events.last() {
            self.last = newest.seq;
            self.source.take_in(events);
        }
    }

    fn place(&self, message: &[u8]) -> Placed {
        let Ok(event) = serde_json::from_slice::<Event>(message) else { return Placed::Old };
        if event.job_id != self.source.job_id || event.seq <= self.last {
            Placed::Old
        } else if event.seq == self.last + 1 {
            Placed::Next(event)
        } else {
            Placed::Gap
        }
    }
}

/// Bytes of an event as JSON.
fn size(event: &impl Serialize) -> usize {
    struct Counted(usize);

    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counted = Counted(0);
    // what cannot be written takes no room either
    let _ = serde_json::to_writer(&mut counted, event);
    counted.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use shared::events::{EventBody, LogLevel, Progress};

    fn event(seq: i32) -> Event {
        let change = Change::Log { level: LogLevel::Info, step: None, message: String::new() };
        let body = EventBody { change, progress: Progress::default(), at: DateTime::UNIX_EPOCH };
        Event { job_id: Uuid::nil(), seq, body }
    }

    fn source() -> Source {
        Source {
            job_id: Uuid::nil(),
            kept: Mutex::default(),
            news: watch::Sender::new(News::default()),
            hurried: AtomicBool::new(false),
        }
    }

    fn numbers(source: &Source, last: i32) -> Option<Vec<i32>> {
        source.after(last).map(|events| events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn a_listener_gets_what_comes_after_its_place() {
        let source = source();
        source.take_in((1..=5).map(|seq| (event(seq), 10)).collect());
        assert_eq!(numbers(&source, 0), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(numbers(&source, 3), Some(vec![4, 5]));
        assert_eq!(numbers(&source, 5), Some(vec![]));
        assert_eq!((source.news.borrow().last, source.news.borrow().over), (5, false));
    }

    #[test]
    fn only_the_newest_events_are_kept_whether_many_or_large() {
        let many = source();
        let count = i32::try_from(KEPT).unwrap_or(i32::MAX) + 3;
        many.take_in((1..=count).map(|seq| (event(seq), 1)).collect());
        assert_eq!((numbers(&many, 2), many.before_first()), (None, 3));
        assert_eq!(numbers(&many, count - 1), Some(vec![count]));

        let large = source();
        large.take_in((1..=3).map(|seq| (event(seq), KEPT_BYTES)).collect());
        assert_eq!((numbers(&large, 1), numbers(&large, 2)), (None, Some(vec![3])), "one at least is kept");
    }
}
