//! What is done now and then: looking who still belongs here, renewing, forgetting.

use super::{ABREAST, Command, Hall};
use crate::socket_io::{handshake::NEEDED, member::Card, run::Run};
use futures_util::{StreamExt, stream};
use socketioxide::socket::Sid;
use std::sync::Arc;
use uuid::Uuid;

impl Hall {
    /// Asks whether everybody here would still be let in; who would not is sent away.
    pub(super) fn review(&mut self) {
        while self.review.try_join_next().is_some() {}
        if !self.review.is_empty() {
            return;
        }
        let cards: Vec<(Sid, Card)> =
            self.members.iter().map(|(sid, member)| (*sid, member.card(self.organization_id))).collect();
        let (state, halls, organization_id) = (self.state.clone(), Arc::clone(&self.halls), self.organization_id);
        self.review.spawn(async move {
            let checks = cards.into_iter().map(|(sid, card)| {
                let state = state.clone();
                async move { (!card.is_good(&state, NEEDED).await).then_some(sid) }
            });
            let mut checked = stream::iter(checks).buffer_unordered(ABREAST);
            while let Some(bad) = checked.next().await {
                if let Some(sid) = bad {
                    halls.tell(organization_id, Command::Expel(sid)).await;
                }
            }
        });
    }

    /// Holds the slots of everybody for another while.
    pub(super) fn renew(&self) {
        let slots: Vec<_> = self.members.values().map(|member| Arc::clone(&member.slot)).collect();
        self.state.spawn(async move {
            let renewals = slots.into_iter().map(|slot| async move { slot.renew().await });
            stream::iter(renewals).buffer_unordered(ABREAST).collect::<()>().await;
        });
    }

    /// Forgets runs that are past, or that nobody is told of any more.
    pub(super) fn forget_past(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.runs.values_mut().for_each(Run::release);
        let unwatched = |id: &Uuid| !self.members.values().any(|member| member.knows(*id));
        let past: Vec<_> =
            self.runs.iter().filter(|(id, run)| run.is_past() || unwatched(id)).map(|(id, _)| *id).collect();
        past.into_iter().for_each(|id| self.forget(id));
    }
}
