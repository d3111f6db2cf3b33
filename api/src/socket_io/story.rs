//! How the events of a run become public ones. Another kind of run is a variant here.

use crate::{
    state::State,
    views::{About, AboutOrchestration, PublicEvent},
};
use diesel::OptionalExtension;
use shared::{
    events::Event,
    models::{LivePlace, LiveRun, Orchestration},
};

/// What is told of one run.
pub(super) enum Story {
    Execution(About),
    Orchestration(AboutOrchestration),
}

impl Story {
    /// Begins to tell of a run. `None`: it has gone in between.
    ///
    /// # Errors
    /// If what has to be known of it cannot be read at the moment.
    pub(super) async fn open(state: &State, run: &LiveRun) -> anyhow::Result<Option<Self>> {
        Ok(match run.place {
            LivePlace::Pipeline(id) => Some(Self::Execution(About::with(id, run.started_at))),
            LivePlace::Project(_) => {
                let orchestration = Orchestration::get(&mut *state.pool.get().await?, run.id).await.optional()?;
                orchestration.map(|found| Self::Orchestration(AboutOrchestration::new(&found, run.started_at)))
            }
        })
    }

    /// The public form of the next event.
    pub(super) fn tell(&mut self, event: &Event) -> PublicEvent {
        match self {
            Self::Execution(about) => about.tell(event),
            Self::Orchestration(about) => about.tell(event),
        }
    }
}
