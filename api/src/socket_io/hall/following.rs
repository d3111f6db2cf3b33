//! Which runs are followed.

use super::{Due, FOLLOWED, Hall, News};
use crate::{
    handlers::feed::Feed,
    socket_io::{run::Run, story::Story},
    state::State,
};
use actix_web::web;
use shared::models::LiveRun;
use std::time::Duration;
use tokio::{sync::mpsc, time};
use uuid::Uuid;

/// How long a database that is away is left in peace.
const AGAIN: Duration = Duration::from_secs(1);

impl Hall {
    /// Follows a run, if it concerns somebody here and is not followed yet.
    pub(super) fn follow(&mut self, found: &LiveRun) {
        if let Some(run) = self.runs.get(&found.id) {
            if !run.is_over() {
                let concerned = self.members.values_mut().filter(|member| member.is_concerned(found));
                concerned.for_each(|member| member.begin(found.id));
            }
            return;
        }
        let concerns = self.members.values().any(|member| member.is_concerned(found));
        if !concerns || !self.has_room_for(found) {
            return;
        }
        let following = follow(self.state.clone(), found.clone(), self.news.clone());
        let follower = self.tasks.spawn(following);
        self.runs.insert(found.id, Run::new(found, follower));
        let concerned = self.members.values_mut().filter(|member| member.is_concerned(found));
        concerned.for_each(|member| member.begin(found.id));
    }

    /// Whether one more run can be followed. One that waits gives way to one that runs: it is found again when it runs,
    /// too.
    pub(super) fn has_room_for(&mut self, found: &LiveRun) -> bool {
        if self.runs.values().filter(|run| !run.is_over()).count() < FOLLOWED {
            return true;
        }
        let waits = self.runs.iter().find_map(|(id, run)| run.is_silent().then_some(*id));
        match waits.filter(|_| found.started_at.is_some()) {
            Some(id) => {
                self.forget(id);
                true
            }
            None => false,
        }
    }

    pub(super) fn forget(&mut self, id: Uuid) {
        self.runs.remove(&id);
        self.members.values_mut().for_each(|member| member.forget(id));
    }

    pub(super) fn take_in(&mut self, page: impl Iterator<Item = News>) -> Due {
        let mut touched = Vec::new();
        for (id, events) in page {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            match events {
                Some(events) => run.take_in(events),
                None => run.end(),
            }
            touched.push(id);
        }
        Due::Watchers(touched)
    }
}

/// Follows one run to its end.
async fn follow(state: web::Data<State>, run: LiveRun, news: mpsc::Sender<News>) {
    let story = loop {
        match Story::open(&state, &run).await {
            Ok(story) => break story,
            Err(error) => {
                tracing::debug!(%error, run_id = %run.id, "a run could not be read; trying again");
                time::sleep(AGAIN).await;
            }
        }
    };
    if let Some(mut story) = story {
        let mut feed = Feed::follow(&state, run.id, 0);
        while let Some(events) = feed.next().await {
            let events = events.iter().map(|event| story.tell(event)).collect();
            if news.send((run.id, Some(events))).await.is_err() {
                return;
            }
        }
    }
    // the hall is closed, or hears it
    let _ = news.send((run.id, None)).await;
}
