//! How the events of a run become public ones. Another kind of run is a variant here.

use crate::{
    state::State,
    views::{About, PublicEvent},
};
use shared::{
    events::Event,
    models::{LivePlace, LiveRun},
};

/// What is told of one run.
pub(super) enum Story {
    Execution(About),
}

impl Story {
    /// Whether runs of this kind are told of.
    pub(super) const fn is_told(run: &LiveRun) -> bool {
        match run.place {
            LivePlace::Pipeline(_) => true,
            LivePlace::Project(_) => false,
        }
    }

    /// Begins to tell of a run. `None`: runs of this kind are not told of.
    ///
    /// # Errors
    /// If what has to be known of it cannot be read at the moment.
    pub(super) async fn open(_state: &State, run: &LiveRun) -> anyhow::Result<Option<Self>> {
        Ok(match run.place {
            LivePlace::Pipeline(id) => Some(Self::Execution(About::with(id, run.started_at))),
            LivePlace::Project(_) => None,
        })
    }

    /// The public form of the next event.
    pub(super) fn tell(&mut self, event: &Event) -> PublicEvent {
        match self {
            Self::Execution(about) => about.tell(event),
        }
    }
}
