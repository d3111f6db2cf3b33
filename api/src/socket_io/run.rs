//! A run whose events are relayed: what was told of it, for those who watch now and those who come while it is under way.

use crate::views::{About, PublicEvent};
use serde_json::{Map, Value, json};
use shared::{
    events::Event,
    models::{LivePlace, LiveRun},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// What is kept of one run: more than the largest pipeline has to say.
const KEPT: usize = 4_000;

/// For how long an ended run is known, so that it is not taken for a new one. Far longer than a look into the past reaches.
const KNOWN: Duration = Duration::from_secs(60);

/// One thing that sockets are told, under its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) name: String,
    /// `{type, data}`, with the fields of `data` once more beside it.
    pub(super) body: Value,
}

impl Told {
    pub(super) fn new(name: &str, data: Value) -> Self {
        let mut body = match &data {
            Value::Object(fields) => fields.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        // a field of one of these names is found in `data`
        body.insert("type".to_owned(), json!(name));
        body.insert("data".to_owned(), data);
        Self { name: name.to_owned(), body: Value::Object(body) }
    }
}

/// How the events of a run become public ones. Another kind of run is a variant here.
enum Story {
    Execution(About),
}

impl Story {
    /// `None`: runs of this kind are not relayed.
    const fn of(run: &LiveRun) -> Option<Self> {
        match run.place {
            LivePlace::Pipeline(id) => Some(Self::Execution(About::with(id, run.started_at))),
            LivePlace::Project(_) => None,
        }
    }

    fn tell(&mut self, event: &Event) -> PublicEvent {
        match self {
            Self::Execution(about) => about.tell(event),
        }
    }
}

/// A run that is followed, or has been.
pub(super) struct Run {
    pub(super) user_id: Uuid,
    pub(super) place: LivePlace,
    story: Story,
    told: VecDeque<Arc<Told>>,
    /// How many were told before those.
    dropped: usize,
    /// Stops the task that follows it.
    follower: Option<AbortHandle>,
    over: Option<Instant>,
}

impl Run {
    /// `None`: runs of this kind are not relayed.
    pub(super) fn new(run: &LiveRun) -> Option<Self> {
        Some(Self {
            user_id: run.user_id,
            place: run.place,
            story: Story::of(run)?,
            told: VecDeque::new(),
            dropped: 0,
            follower: None,
            over: None,
        })
    }

    pub(super) fn followed_by(&mut self, follower: AbortHandle) {
        self.follower = Some(follower);
    }

    /// Takes in what has happened.
    pub(super) fn take_in(&mut self, events: &[Arc<Event>]) {
        for event in events {
            let PublicEvent { name, data, is_last, .. } = self.story.tell(event);
            // what was logged is for those who follow one run
            if !name.ends_with(":log") {
                self.told.push_back(Arc::new(Told::new(name, data)));
            }
            if self.told.len() > KEPT {
                self.told.pop_front();
                self.dropped += 1;
            }
            if is_last {
                self.end();
            }
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.over.get_or_insert_with(Instant::now);
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Nothing was told of it yet.
    pub(super) fn is_silent(&self) -> bool {
        self.told.is_empty() && self.dropped == 0 && self.over.is_none()
    }

    /// It may be forgotten.
    pub(super) fn is_past(&self) -> bool {
        self.over.is_some_and(|over| over.elapsed() > KNOWN)
    }

    /// What is to be told next to somebody who was told `place` of it so far; moves the place over what was dropped.
    pub(super) fn next(&self, place: &mut usize) -> Option<&Arc<Told>> {
        *place = (*place).max(self.dropped);
        self.told.get(*place - self.dropped)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use chrono::DateTime;
    use shared::{
        events::{Change, EventBody, LogLevel, Progress},
        models::JobStatus,
    };

    fn event(seq: i32, change: Change) -> Arc<Event> {
        let body = EventBody { change, progress: Progress::default(), at: DateTime::UNIX_EPOCH };
        Arc::new(Event { job_id: Uuid::nil(), seq, body })
    }

    fn run() -> Run {
        let place = LivePlace::Pipeline(Uuid::from_u128(7));
        let (id, organization_id, user_id) = (Uuid::nil(), Uuid::nil(), Uuid::nil());
        let run = LiveRun { id, organization_id, user_id, place, started_at: None, finished_at: None };
        Run::new(&run).unwrap()
    }

    #[test]
    fn the_fields_of_the_data_stand_beside_it() {
        let told = Told::new("pipeline:created", json!({ "id": 1, "name": "Mugs", "type": "x" }));
        let expected = json!({
            "type": "pipeline:created", "data": { "id": 1, "name": "Mugs", "type": "x" }, "id": 1, "name": "Mugs",
        });
        assert_eq!(told.body, expected);
    }

    #[test]
    fn everybody_gets_it_from_the_beginning_and_logs_are_left_out() {
        let mut run = run();
        assert!(run.is_silent());
        let log = Change::Log { level: LogLevel::Info, step: None, message: "hm".to_owned() };
        run.take_in(&[event(1, Change::JobStarted), event(2, log)]);
        run.take_in(&[event(3, Change::JobFinished { status: JobStatus::Completed, data: json!({}) })]);
        let (mut place, mut names) = (0, Vec::new());
        while let Some(told) = run.next(&mut place) {
            names.push(told.name.clone());
            place += 1;
        }
        assert_eq!(names, ["execution:started", "execution:completed"]);
        assert!(run.is_over() && !run.is_past() && !run.is_silent());
    }

    #[test]
    fn of_an_endless_run_the_newest_is_kept() {
        let mut run = run();
        for seq in 0..i32::try_from(KEPT).unwrap() + 5 {
            run.take_in(&[event(seq, Change::JobStarted)]);
        }
        let mut place = 2;
        assert_eq!(run.next(&mut place).unwrap().body["seq"], 5);
        assert_eq!(place, 5);
    }
}
