//! Which runs are followed.

use super::{Due, FOLLOWED, Hall, News};
use crate::{handlers::feed::Feed, socket_io::run::Run};
use shared::models::LiveRun;
use uuid::Uuid;

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
        if !self.members.values().any(|member| member.is_concerned(found)) || !self.has_room_for(found) {
            return;
        }
        let Some(mut run) = Run::new(found) else { return };
        let (id, news, state) = (found.id, self.news.clone(), self.state.clone());
        run.followed_by(self.tasks.spawn(async move {
            let mut feed = Feed::follow(&state, id, 0);
            while let Some(events) = feed.next().await {
                if news.send((id, Some(events))).await.is_err() {
                    return;
                }
            }
            // the hall is closed, or hears it
            let _ = news.send((id, None)).await;
        }));
        self.runs.insert(id, run);
        let concerned = self.members.values_mut().filter(|member| member.is_concerned(found));
        concerned.for_each(|member| member.begin(id));
    }

    /// Whether one more run can be followed. One that waits gives way to one that runs: it is found again when it runs, too.
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
                Some(events) => run.take_in(&events),
                None => run.end(),
            }
            touched.push(id);
        }
        Due::Watchers(touched)
    }
}
