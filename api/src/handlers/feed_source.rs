//! The events of one job as far as they are known in this process: what all of its listeners share.

use super::feed::PAGE;
use shared::events::{Change, Event};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use uuid::Uuid;

/// Events of one job that are kept, and how many bytes of JSON they may be together.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 1 << 20;

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
    pub(super) news: watch::Sender<News>,
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

impl Source {
    /// One of which nothing is known yet.
    pub(super) fn new(job_id: Uuid) -> Self {
        Self {
            job_id,
            kept: Mutex::default(),
            news: watch::Sender::new(News::default()),
            hurried: AtomicBool::new(false),
        }
    }

    /// Somebody waits for the end with a request.
    pub(super) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Whether somebody waits for the end with a request.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
    }

    /// Nobody has asked for what is before this event: who does reads it.
    pub(super) fn begin_after(&self, last: i32) {
        self.lock().before_first = last;
        self.news.send_modify(|news| news.last = last);
    }

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
    pub(super) fn take_in(&self, events: Vec<(Event, usize)>) {
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

    /// Nothing will follow.
    pub(super) fn end(&self) {
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

    fn numbers(source: &Source, last: i32) -> Option<Vec<i32>> {
        source.after(last).map(|events| events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn a_listener_gets_what_comes_after_its_place() {
        let source = Source::new(Uuid::nil());
        source.take_in((1..=5).map(|seq| (event(seq), 10)).collect());
        assert_eq!(numbers(&source, 0), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(numbers(&source, 3), Some(vec![4, 5]));
        assert_eq!(numbers(&source, 5), Some(vec![]));
        assert_eq!((source.news.borrow().last, source.news.borrow().over), (5, false));
    }

    #[test]
    fn only_the_newest_events_are_kept_whether_many_or_large() {
        let many = Source::new(Uuid::nil());
        let count = i32::try_from(KEPT).unwrap_or(i32::MAX) + 3;
        many.take_in((1..=count).map(|seq| (event(seq), 1)).collect());
        assert_eq!((numbers(&many, 2), many.before_first()), (None, 3));
        assert_eq!(numbers(&many, count - 1), Some(vec![count]));

        let large = Source::new(Uuid::nil());
        large.take_in((1..=3).map(|seq| (event(seq), KEPT_BYTES)).collect());
        assert_eq!((numbers(&large, 1), numbers(&large, 2)), (None, Some(vec![3])), "one at least is kept");
    }
}
