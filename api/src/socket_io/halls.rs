//! All halls of this process, an organization each. A hall opens with the first socket of its organization and closes
//! with the last.

use super::{
    hall::{self, Command, Newcomer},
    session::locked,
};
use crate::state::State;
use actix_web::web;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::{
    Notify,
    mpsc::{self, Receiver, Sender},
};
use uuid::Uuid;

/// Commands that wait for a hall.
const WAITING: usize = 256;

/// Halls that may be closed just when somebody comes to the door.
const TRIES: usize = 10;

/// The halls.
#[derive(Default)]
pub(super) struct Halls {
    open: Mutex<HashMap<Uuid, Sender<Command>>>,
    /// Something may have been missed: what runs is to be looked up.
    missed: Notify,
}

impl Halls {
    /// Leads a socket into the hall of its organization, which is opened if it is not open.
    pub(super) async fn enter(self: &Arc<Self>, state: &web::Data<State>, organization_id: Uuid, newcomer: Newcomer) {
        let session = Arc::clone(&newcomer.session);
        let mut command = Command::Enter(Box::new(newcomer));
        for _ in 0..TRIES {
            let door = self.door(state, organization_id);
            match door.send(command).await {
                Ok(()) => return,
                // it has just been closed; the next one is new
                Err(back) => command = back.0,
            }
        }
        // the process stops: the client is to connect somewhere else
        session.end();
    }

    fn door(self: &Arc<Self>, state: &web::Data<State>, organization_id: Uuid) -> Sender<Command> {
        let mut open = locked(&self.open);
        // a hall closes before it ends; one that has not had an accident
        if open.get(&organization_id).is_some_and(Sender::is_closed) {
            open.remove(&organization_id);
        }
        let door = open.entry(organization_id).or_insert_with(|| {
            let (door, commands) = mpsc::channel(WAITING);
            state.spawn(hall::run(state.clone(), Arc::clone(self), organization_id, commands));
            door
        });
        door.clone()
    }

    /// Tells a hall something, if it is open.
    pub(super) async fn tell(&self, organization_id: Uuid, command: Command) {
        let door = locked(&self.open).get(&organization_id).cloned();
        if let Some(door) = door {
            // were it closed meanwhile, nobody were there to be concerned
            let _ = door.send(command).await;
        }
    }

    /// Closes a hall: nobody is led into it any more. What was said to it before is still in `commands`.
    pub(super) fn close(&self, organization_id: Uuid, commands: &mut Receiver<Command>) {
        let mut open = locked(&self.open);
        open.remove(&organization_id);
        commands.close();
    }

    /// Whose halls are open.
    pub(super) fn organizations(&self) -> Vec<Uuid> {
        locked(&self.open).keys().copied().collect()
    }

    /// Every hall looks whether those in it still may be there. One that is busy is passed over this time.
    pub(super) fn review_all(&self) {
        for door in locked(&self.open).values() {
            let _ = door.try_send(Command::Review);
        }
    }

    /// Something may have been missed.
    pub(super) fn look_again(&self) {
        self.missed.notify_one();
    }

    /// Waits until something may have been missed.
    pub(super) async fn looked_for(&self) {
        self.missed.notified().await;
    }
}
