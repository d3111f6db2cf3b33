//! Where the sockets of one organization in this process are told what happens in it.
//!
//! One task owns a hall: it hears the organization's notices, follows the runs that concern somebody here (each once, however
//! many watch it), and keeps for every socket how far it was told. So each event reaches each socket once and in order, and a
//! slow one holds up nobody: it is told less at a time, and is sent away if it takes nothing for long.

use super::{
    halls::Halls,
    handshake::NEEDED,
    member::{Card, Flushed, Member},
    run::{Run, Told},
    session::{Admitted, Session},
};
use crate::{
    handlers::feed::Feed,
    live::{Live, Subscription},
    state::State,
};
use actix_web::web;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use shared::{
    events::{Event, Notice, organization_channel},
    models::{LivePlace, LiveRun},
};
use socketioxide::{extract::SocketRef, socket::Sid};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, oneshot},
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

/// How often slots are renewed and what is past is forgotten.
const UPKEEP: Duration = Duration::from_secs(20);

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
    state.sockets.spawn(async move {
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
type News = (Uuid, Option<Vec<Arc<Event>>>);

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
        let (mut behind, mut page) = (false, Vec::new());
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
                    self.keep_up();
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

    fn join(&mut self, sid: Sid, room: LivePlace, since: DateTime<Utc>) -> Joined {
        let Some(member) = self.members.get_mut(&sid) else { return Joined::Yes };
        if member.rooms.contains_key(&room) {
            return Joined::Yes;
        }
        if member.rooms.len() >= ROOMS {
            return Joined::TooMany;
        }
        member.rooms.insert(room, since);
        for (id, _) in self.runs.iter().filter(|(_, run)| run.place == room && !run.is_over()) {
            member.begin(*id);
        }
        let mut data = presence(member.user_id, room);
        data["user_name"] = json!(member.name);
        self.tell_room("user:joined", room, sid, data);
        Joined::Yes
    }

    fn leave(&mut self, sid: Sid, room: LivePlace) {
        if let Some(member) = self.members.get_mut(&sid)
            && member.rooms.remove(&room).is_some()
        {
            let data = presence(member.user_id, room);
            self.tell_room("user:left", room, sid, data);
        }
    }

    /// Forgets a socket that has gone, or is to go.
    fn go(&mut self, sid: Sid) {
        let Some(member) = self.members.remove(&sid) else { return };
        for room in member.rooms.keys() {
            self.tell_room("user:left", *room, sid, presence(member.user_id, *room));
        }
        self.state.sockets.spawn(async move { member.slot.give_back().await });
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

    /// Tells the others in a room, here and elsewhere.
    fn tell_room(&mut self, name: &str, room: LivePlace, except: Sid, data: Value) {
        let told = Arc::new(Told::new(name, data.clone()));
        for (_, member) in self.members.iter_mut().filter(|(sid, _)| **sid != except) {
            if member.rooms.contains_key(&room) {
                member.push(&told);
            }
        }
        let mut data = data;
        data["from"] = json!(self.here);
        // were too many waiting, Redis would be away: nobody elsewhere could hear it
        let _ = self.others.try_send(Notice { r#type: name.to_owned(), data });
    }

    /// Hears what is said to the whole organization.
    fn hear(&mut self, notice: Result<Live, RecvError>) -> Due {
        let notice = match notice {
            Ok(Live::Message(message)) => serde_json::from_slice::<Notice>(&message).ok(),
            Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => {
                self.halls.look_again();
                None
            }
            // with the hub itself: the process stops
            Err(RecvError::Closed) => None,
        };
        let Some(Notice { r#type: name, mut data }) = notice else { return Due::Nobody };
        let notice = Notice { r#type: name.clone(), data: data.clone() };
        if let Some(run) = notice.accepted_run(self.organization_id) {
            self.follow(&run);
        } else if name.starts_with("pipeline:") || name.starts_with("project:") {
            let told = Arc::new(Told::new(&name, data));
            self.members.values_mut().for_each(|member| member.push(&told));
        } else if name.starts_with("user:")
            && let Some(room) = room_of(&data)
            && data["from"] != json!(self.here)
        {
            if let Value::Object(fields) = &mut data {
                fields.remove("from");
            }
            let told = Arc::new(Told::new(&name, data));
            let there = self.members.values_mut().filter(|member| member.rooms.contains_key(&room));
            there.for_each(|member| member.push(&told));
        }
        Due::Everybody
    }

    /// Follows a run, if it concerns somebody here and is not followed yet.
    fn follow(&mut self, found: &LiveRun) {
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
    fn has_room_for(&mut self, found: &LiveRun) -> bool {
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

    fn forget(&mut self, id: Uuid) {
        self.runs.remove(&id);
        self.members.values_mut().for_each(|member| member.forget(id));
    }

    fn take_in(&mut self, page: impl Iterator<Item = News>) -> Due {
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

    /// Asks whether everybody here would still be let in; who would not is sent away.
    fn review(&mut self) {
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

    /// Renews slots, and forgets runs that are past or that nobody was told of any more.
    fn keep_up(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let slots: Vec<_> = self.members.values().map(|member| Arc::clone(&member.slot)).collect();
        self.state.sockets.spawn(async move {
            let renewals = slots.into_iter().map(|slot| async move { slot.renew().await });
            stream::iter(renewals).buffer_unordered(ABREAST).collect::<()>().await;
        });
        let unwatched = |id: &Uuid| !self.members.values().any(|member| member.knows(*id));
        let past: Vec<_> =
            self.runs.iter().filter(|(id, run)| run.is_past() || unwatched(id)).map(|(id, _)| *id).collect();
        past.into_iter().for_each(|id| self.forget(id));
    }
}

/// Who is in a room, or was.
fn presence(user_id: Uuid, room: LivePlace) -> Value {
    match room {
        LivePlace::Pipeline(id) => json!({ "user_id": user_id, "pipeline_id": id }),
        LivePlace::Project(id) => json!({ "user_id": user_id, "project_id": id }),
    }
}

/// The room that somebody is said to have come into, or left.
fn room_of(data: &Value) -> Option<LivePlace> {
    let id = |key: &str| data[key].as_str()?.parse().ok();
    id("pipeline_id").map(LivePlace::Pipeline).or_else(|| id("project_id").map(LivePlace::Project))
}
