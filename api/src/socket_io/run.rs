//! A run whose events are relayed: what was told of it, for those who watch now and those who come while it is under
//! way.

use crate::views::PublicEvent;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use shared::models::{LivePlace, LiveRun};
use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// What is kept of one run: more than the largest pipeline has to say.
const KEPT: usize = 2_000;

/// For how long what was told of an ended run is kept: whoever has not taken it by then has been sent away.
const TOLD: Duration = Duration::from_secs(10);

/// For how long an ended run is known, so that it is not taken for a new one. Far longer than a look into the past
/// reaches.
const KNOWN: Duration = Duration::from_secs(60);

/// One thing that sockets are told, under its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) name: Cow<'static, str>,
    pub(super) data: Value,
}

/// `{type, data}`, with the fields of `data` once more beside it.
impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.name)?;
        map.serialize_entry("data", &self.data)?;
        let fields = self.data.as_object().into_iter().flatten();
        // a field of one of these names is found in `data`
        for (name, value) in fields.filter(|(name, _)| *name != "type" && *name != "data") {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A run that is followed, or has been.
pub(super) struct Run {
    pub(super) user_id: Uuid,
    pub(super) place: LivePlace,
    told: VecDeque<Arc<Told>>,
    /// How many were told before those.
    dropped: usize,
    /// Stops the task that follows it.
    follower: AbortHandle,
    over: Option<Instant>,
}

impl Run {
    /// One that `follower` follows.
    pub(super) const fn new(run: &LiveRun, follower: AbortHandle) -> Self {
        Self { user_id: run.user_id, place: run.place, told: VecDeque::new(), dropped: 0, follower, over: None }
    }

    /// Takes in what has happened.
    pub(super) fn take_in(&mut self, events: Vec<PublicEvent>) {
        for PublicEvent { name, data, is_last, .. } in events {
            // what was logged is for those who follow one run
            if !name.ends_with(":log") {
                self.told.push_back(Arc::new(Told { name: name.into(), data }));
            }
            if self.told.len() > KEPT {
                self.drop_told(1);
            }
            if is_last {
                self.end();
            }
        }
    }

    fn drop_told(&mut self, count: usize) {
        self.told.drain(..count);
        self.dropped += count;
    }

    /// Gives back what nobody needs any more.
    pub(super) fn release(&mut self) {
        if self.over.is_some_and(|over| over.elapsed() > TOLD) {
            self.drop_told(self.told.len());
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
        self.follower.abort();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use serde_json::json;
    use tokio::task::JoinSet;

    fn event(name: &'static str, seq: i32) -> PublicEvent {
        PublicEvent { name, seq, data: json!({ "seq": seq }), is_last: name.ends_with("completed") }
    }

    fn run(tasks: &mut JoinSet<()>) -> Run {
        let place = LivePlace::Pipeline(Uuid::from_u128(7));
        let (id, organization_id, user_id) = (Uuid::nil(), Uuid::nil(), Uuid::nil());
        let run = LiveRun { id, organization_id, user_id, place, started_at: None, finished_at: None };
        Run::new(&run, tasks.spawn(std::future::pending()))
    }

    #[test]
    fn the_fields_of_the_data_stand_beside_it() {
        let data = json!({ "id": 1, "name": "Mugs", "type": "x" });
        let told = Told { name: "pipeline:created".into(), data };
        let expected = json!({
            "type": "pipeline:created", "data": { "id": 1, "name": "Mugs", "type": "x" }, "id": 1, "name": "Mugs",
        });
        assert_eq!(serde_json::to_value(&told).unwrap(), expected);
    }

    #[tokio::test]
    async fn everybody_gets_it_from_the_beginning_and_logs_are_left_out() {
        let mut tasks = JoinSet::new();
        let mut run = run(&mut tasks);
        assert!(run.is_silent());
        run.take_in(vec![event("execution:started", 1), event("execution:log", 2)]);
        run.take_in(vec![event("execution:completed", 3)]);
        let (mut place, mut names) = (0, Vec::new());
        while let Some(told) = run.next(&mut place) {
            names.push(told.name.clone().into_owned());
            place += 1;
        }
        assert_eq!(names, ["execution:started", "execution:completed"]);
        assert!(run.is_over() && !run.is_past() && !run.is_silent());
        drop(run);
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled(), "nobody follows it any more");
    }

    #[tokio::test]
    async fn of_an_endless_run_the_newest_is_kept() {
        let mut tasks = JoinSet::new();
        let mut run = run(&mut tasks);
        let count = i32::try_from(KEPT).unwrap() + 5;
        run.take_in((0..count).map(|seq| event("execution:progress", seq)).collect());
        let mut place = 2;
        assert_eq!(run.next(&mut place).unwrap().data["seq"], 5);
        assert_eq!(place, 5);
    }
}
