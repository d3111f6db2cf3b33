//! Where the sockets of one organization in this process are told what happens in it.
//!
//! One task owns a hall: it hears the organization's notices, follows the runs that concern somebody here (each once,
//! however many watch it), and keeps for every socket how far it was told. So each event reaches each socket once and
//! in order, and a slow one holds up nobody: it is told less at a time, and is sent away if it takes nothing for long.

mod following;
mod presence;
mod upkeep;

use super::{
    halls::Halls,
    member::{Flushed, Member},
    run::Run,
    session::{Admitted, Session},
};
use crate::{live::Subscription, state::State, views::PublicEvent};
use actix_web::web;
use chrono::{DateTime, Utc};
use shared::{
    events::{Notice, organization_channel},
    models::{LivePlace, LiveRun},
};
use socketioxide::{extract::SocketRef, socket::Sid};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};
use uuid::Uuid;

/// Rooms that one socket may be in.
const ROOMS: usize = 100;

/// Runs that are followed at a time for one organization; the others are followed as these end.
const FOLLOWED: usize = 500;

/// Pages of events, and of notices to others, that wait.
const WAITING: usize = 256;

/// How often a socket that reads slowly is tried again.
const NUDGE: Duration = Duration::from_millis(50);

/// How often what is past is forgotten, and after how many times slots are renewed.
const UPKEEP: Duration = Duration::from_secs(5);
const RENEWAL: u32 = 4;

/// Look-ups, or calls of Redis, at a time.
const ABREAST: usize = 64;

/// A socket that was let in.
pub(super) struct Newcomer {
    pub(super) socket: SocketRef,
    pub(super) session: Arc<Session>,
    pub(super) admitted: Admitted,
}

/// What a hall is told.
pub(super) enum Command {
    /// Somebody comes.
    Enter(Box<Newcomer>),
    /// A socket wants into a room, which is there and its organization's.
    Join { sid: Sid, room: LivePlace, since: DateTime<Utc>, answer: oneshot::Sender<Joined> },
    /// A socket leaves a room.
    Leave { sid: Sid, room: LivePlace },
    /// A socket has gone.
    Go(Sid),
    /// These run, or have ended lately.
    Found(Vec<LiveRun>),
    /// Does everybody still belong here?
    Review,
    /// This socket does not.
    Expel(Sid),
}

/// Whether a socket is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    Yes,
    TooMany,
}

/// The hall of one organization, until nobody is in it.
pub(super) async fn run(
    state: web::Data<State>,
    halls: Arc<Halls>,
    organization_id: Uuid,
    commands: mpsc::Receiver<Command>,
) {
    let channel = organization_channel(&state.config.redis.prefix, organization_id);
    let notices = state.live.subscribe(&channel).await;
    let (news, heard) = mpsc::channel(WAITING);
    let (others, mut to_publish) = mpsc::channel::<Notice>(WAITING);
    let publishing = state.clone();
    state.spawn(async move {
        while let Some(notice) = to_publish.recv().await {
            publishing.notify(organization_id, &notice).await;
        }
    });
    let hall = Hall {
        state,
        halls,
        organization_id,
        here: Uuid::now_v7(),
        members: HashMap::new(),
        runs: HashMap::new(),
        news,
        others,
        tasks: JoinSet::new(),
        review: JoinSet::new(),
    };
    hall.serve(commands, notices, heard).await;
}

/// What is new of a run; `None`: nothing follows.
type News = (Uuid, Option<Vec<PublicEvent>>);

struct Hall {
    state: web::Data<State>,
    halls: Arc<Halls>,
    organization_id: Uuid,
    /// Which of the organization's halls this is; the others are in other processes.
    here: Uuid,
    members: HashMap<Sid, Member>,
    runs: HashMap<Uuid, Run>,
    news: mpsc::Sender<News>,
    /// What the other halls are told.
    others: mpsc::Sender<Notice>,
    /// Those who follow runs.
    tasks: JoinSet<()>,
    review: JoinSet<()>,
}

/// Who may have something to be told.
enum Due {
    Nobody,
    Everybody,
    /// Those who watch one of these runs.
    Watchers(Vec<Uuid>),
}

impl Hall {
    async fn serve(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut notices: Subscription,
        mut heard: mpsc::Receiver<News>,
    ) {
        let mut upkeep = time::interval_at(Instant::now() + UPKEEP, UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut behind, mut page, mut upkeeps) = (false, Vec::new(), 0_u32);
        let state = self.state.clone();
        loop {
            let due = tokio::select! {
                Some(command) = commands.recv() => {
                    self.obey(command);
                    if self.members.is_empty() {
                        self.close(&mut commands).await;
                        return;
                    }
                    Due::Everybody
                }
                notice = notices.receiver.recv() => self.hear(notice),
                _ = heard.recv_many(&mut page, WAITING) => self.take_in(page.drain(..)),
                () = time::sleep(NUDGE), if behind => Due::Everybody,
                _ = upkeep.tick() => {
                    upkeeps += 1;
                    if upkeeps % RENEWAL == 0 {
                        self.renew();
                    }
                    self.forget_past();
                    Due::Nobody
                }
                () = state.shutdown.cancelled() => break,
            };
            behind = match due {
                Due::Nobody => behind,
                Due::Everybody => self.flush(None),
                Due::Watchers(runs) => self.flush(Some(&runs)) || behind,
            };
        }
        for sid in self.members.keys().copied().collect::<Vec<_>>() {
            self.go(sid);
        }
        self.halls.close(self.organization_id, &mut commands);
    }

    /// Closes the hall, unless somebody has come in the last moment: then they are led into the next one.
    async fn close(self, commands: &mut mpsc::Receiver<Command>) {
        self.halls.close(self.organization_id, commands);
        while let Some(command) = commands.recv().await {
            if let Command::Enter(newcomer) = command {
                self.halls.enter(&self.state, self.organization_id, *newcomer).await;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Enter(newcomer) => {
                let member = Member::new(*newcomer);
                self.enter(member);
            }
            Command::Join { sid, room, since, answer } => {
                // who does not wait for it needs no answer
                let _ = answer.send(self.join(sid, room, since));
            }
            Command::Leave { sid, room } => self.leave(sid, room),
            Command::Go(sid) => self.go(sid),
            Command::Found(runs) => runs.iter().for_each(|run| self.follow(run)),
            Command::Review => self.review(),
            Command::Expel(sid) => self.expel(sid),
        }
    }

    fn enter(&mut self, mut member: Member) {
        for (id, run) in self.runs.iter().filter(|(_, run)| !run.is_over()) {
            if member.user_id == run.user_id {
                member.begin(*id);
            }
        }
        member.session.entered.send_replace(true);
        self.members.insert(member.socket.id, member);
    }

    /// Forgets a socket that has gone, or is to go.
    fn go(&mut self, sid: Sid) {
        let Some(member) = self.members.remove(&sid) else { return };
        for room in member.rooms.keys() {
            self.tell_room("user:left", *room, sid, presence::of(member.user_id, *room));
        }
        self.state.spawn(async move { member.slot.give_back().await });
    }

    /// Sends a socket away for good.
    fn expel(&mut self, sid: Sid) {
        if let Some(member) = self.members.get(&sid) {
            // the client hears that it was the server who has ended it, and does not come back by itself
            if member.socket.clone().disconnect().is_err() {
                member.session.end();
            }
        }
        self.go(sid);
    }

    /// Tells everybody, or those who watch one of these runs, as much as they take; whether somebody is behind.
    fn flush(&mut self, new: Option<&[Uuid]>) -> bool {
        let (mut behind, mut lost) = (false, Vec::new());
        let watches = |member: &Member| new.is_none_or(|runs| runs.iter().any(|run| member.knows(*run)));
        for (sid, member) in self.members.iter_mut().filter(|(_, member)| watches(member)) {
            match member.flush(&self.runs, new) {
                Flushed::All => {}
                Flushed::Behind => behind = true,
                Flushed::Lost => lost.push(*sid),
            }
        }
        for sid in &lost {
            if let Some(member) = self.members.get(sid) {
                member.session.end();
            }
            self.go(*sid);
        }
        // others are told that these have left
        behind || !lost.is_empty()
    }
}
