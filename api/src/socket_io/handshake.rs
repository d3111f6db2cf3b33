//! Letting clients in, and hearing what they say.

use super::{
    hall::{Command, Joined, Newcomer},
    halls::Halls,
    session::{Admitted, Session, locked},
};
use crate::{
    auth::{Caller, caller::Shown, permissions::Permission},
    error::{ApiError, Code},
    handlers::socket_slots::Slot,
    rules::Keys,
    state::State,
};
use actix_web::web;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::models::{LivePlace, LiveRun};
use socketioxide::{
    SocketIo as Io,
    extract::{AckSender, SocketRef, TryData},
    handler::ConnectHandler,
    socket::Sid,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// What an API key must be good for.
pub(super) const NEEDED: Keys = Keys::With(Permission::PipelinesRead);

type Place = fn(Uuid) -> LivePlace;

/// What a client may say with an id: into a room, or out of it.
const MOVES: [(&str, Place, bool); 4] = [
    ("join:pipeline", LivePlace::Pipeline, true),
    ("leave:pipeline", LivePlace::Pipeline, false),
    ("join:project", LivePlace::Project, true),
    ("leave:project", LivePlace::Project, false),
];

/// How long a message may wait for its sender to be in.
const COMING_IN: Duration = Duration::from_secs(5);

/// How long a client that was sent away has to hear it before its connection is cut.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a client shows when it connects.
#[derive(Debug, Deserialize)]
struct Auth {
    token: Option<String>,
}

/// Why a client is not let in; it hears this as the message of `connect_error`.
struct Refused(Code);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        if let Some(cause) = error.cause() {
            tracing::warn!(code = error.code().as_str(), "a client of Socket.IO was not let in: {cause:#}");
        }
        Self(error.code())
    }
}

/// Opens the default namespace.
pub(super) fn open(io: &Io, state: &web::Data<State>, halls: &Arc<Halls>) {
    let desk = Desk { state: state.clone(), halls: Arc::clone(halls) };
    let at_the_door = desk.clone();
    let enter = move |socket: SocketRef| async move { desk.enter(socket).await };
    let admit = move |socket: SocketRef, TryData(auth): TryData<Auth>| async move {
        at_the_door.admit(&socket, auth.ok()).await
    };
    io.ns("/", enter.with(admit));
}

/// Who serves clients; cheap to clone.
#[derive(Clone)]
struct Desk {
    state: web::Data<State>,
    halls: Arc<Halls>,
}

impl Desk {
    /// Checks who a client is, before it is let in.
    async fn admit(&self, socket: &SocketRef, auth: Option<Auth>) -> Result<(), Refused> {
        let session = session(socket)?;
        if self.state.is_draining() {
            return Err(Refused(Code::Unavailable));
        }
        let token = auth.and_then(|auth| auth.token);
        let sent = token.map(|token| shown(&token)).or_else(|| session.shown.clone());
        let shown = sent.ok_or(Refused(Code::AuthenticationRequired))?;
        let caller = Caller::from_shown(&self.state, &shown).await?;
        caller.require(NEEDED)?;
        let found = LiveRun::find_watcher(&mut *self.state.conn().await?, caller.user_id).await;
        let (name, since) = found.map_err(ApiError::from)?.ok_or(Refused(Code::AuthenticationRequired))?;
        let slot = Slot::take(&self.state, "socket_io", caller.user_id).await;
        let slot = slot.ok_or(Refused(Code::RateLimited))?;
        caller.count_use(&self.state);
        let organization_id = caller.organization_id;
        session.admit(socket.id, Admitted { caller, shown, slot, name, since });
        self.listen(socket, organization_id);
        Ok(())
    }

    /// Hears what a client says, from before it can say anything.
    fn listen(&self, socket: &SocketRef, organization_id: Uuid) {
        for (event, place, comes) in MOVES {
            let desk = self.clone();
            socket.on(event, move |socket: SocketRef, TryData(id): TryData<String>, ack: AckSender| async move {
                let room = id.ok().and_then(|id| id.parse().ok()).map(place);
                let answer = match desk.move_to(&socket, organization_id, room, comes).await {
                    Ok(()) => json!({ "ok": true }),
                    Err(error) => refusal(&error),
                };
                // who has gone needs no answer
                let _ = ack.send(&answer);
            });
        }
        let desk = self.clone();
        socket.on_disconnect(move |socket: SocketRef| async move {
            desk.halls.tell(organization_id, Command::Go(socket.id)).await;
            sleep(LAST_WORD).await;
            if let Ok(session) = session(&socket) {
                session.end();
            }
        });
    }

    /// Leads a client that was let in to its hall.
    async fn enter(&self, socket: SocketRef) {
        let Ok(session) = session(&socket) else { return };
        let admitted = locked(&session.admitted).take();
        let Some(admitted) = admitted else { return };
        let (sid, user_id) = (socket.id, admitted.caller.user_id);
        let organization_id = admitted.caller.organization_id;
        let newcomer = Newcomer { socket: socket.clone(), session, admitted };
        self.halls.enter(&self.state, organization_id, newcomer).await;
        if !socket.connected() {
            // it has gone before it came
            self.halls.tell(organization_id, Command::Go(sid)).await;
            return;
        }
        let found = async {
            let mut conn = self.state.pool.get().await?;
            anyhow::Ok(LiveRun::list_of_user(&mut conn, user_id, organization_id).await?)
        };
        self.found(organization_id, found.await).await;
    }

    /// Tells the hall what runs. Were it not known now, it would be with the next look.
    async fn found(&self, organization_id: Uuid, found: anyhow::Result<Vec<LiveRun>>) {
        match found {
            Ok(runs) if runs.is_empty() => {}
            Ok(runs) => self.halls.tell(organization_id, Command::Found(runs)).await,
            Err(error) => tracing::debug!(%error, "what runs could not be looked up"),
        }
    }

    /// Into a room, or out of it.
    async fn move_to(
        &self,
        socket: &SocketRef,
        organization_id: Uuid,
        room: Option<LivePlace>,
        comes: bool,
    ) -> Result<(), ApiError> {
        let session = session(socket).map_err(|_| ApiError::unauthenticated())?;
        let Some(_turn) = session.turn() else {
            return Err(ApiError::new(Code::RateLimited, "Wait for answers before you ask for more"));
        };
        let mut entered = session.entered.subscribe();
        if !matches!(timeout(COMING_IN, entered.wait_for(|entered| *entered)).await, Ok(Ok(_))) {
            return Err(ApiError::unavailable("Try again in a moment", 1));
        }
        let room = room.ok_or_else(|| ApiError::not_found("Room"))?;
        if comes {
            self.join(socket.id, organization_id, room).await
        } else {
            self.halls.tell(organization_id, Command::Leave { sid: socket.id, room }).await;
            Ok(())
        }
    }

    async fn join(&self, sid: Sid, organization_id: Uuid, room: LivePlace) -> Result<(), ApiError> {
        let found = room.find(&mut *self.state.conn().await?, organization_id).await?;
        let since = found.ok_or_else(|| ApiError::not_found(what(room)))?;
        let (answer, answered) = oneshot::channel();
        self.halls.tell(organization_id, Command::Join { sid, room, since, answer }).await;
        match answered.await {
            Ok(Joined::Yes) => {}
            Ok(Joined::TooMany) => return Err(ApiError::conflict("Too many rooms; leave one first")),
            Err(_) => return Err(ApiError::unavailable("Connect again", 1)),
        }
        let mut conn = self.state.conn().await?;
        let runs = LiveRun::list_of_place(&mut conn, room, organization_id).await?;
        drop(conn);
        self.found(organization_id, Ok(runs)).await;
        Ok(())
    }
}

/// A token with or without `Bearer `, or an API key.
pub(super) fn shown(text: &str) -> Shown {
    let text = text.trim();
    if text.starts_with("sk_") { Shown::Key(text.to_owned()) } else { Shown::token(text) }
}

fn session(socket: &SocketRef) -> Result<Arc<Session>, Refused> {
    // every request comes by the bridge, which puts it there
    socket.req_parts().extensions.get::<Arc<Session>>().cloned().ok_or(Refused(Code::Internal))
}

const fn what(room: LivePlace) -> &'static str {
    match room {
        LivePlace::Pipeline(_) => "Pipeline",
        LivePlace::Project(_) => "Project",
    }
}

fn refusal(error: &ApiError) -> Value {
    if let Some(cause) = error.cause() {
        tracing::warn!(code = error.code().as_str(), "a message of a client of Socket.IO failed: {cause:#}");
    }
    json!({ "ok": false, "error": { "code": error.code(), "message": error.message() } })
}
