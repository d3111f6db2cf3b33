//! Socket.IO at `/socket.io`, on the API's own port: who may come in, what clients say, and which events go to whom.
//!
//! The protocol itself (Engine.IO 4 with polling, WebSocket and the change from one to the other; Socket.IO 5) is
//! `socketioxide`'s, with its local adapter. Events do not go from process to process by Socket.IO: every process takes
//! them from where all listeners take them, the [`Hub`](crate::live::Hub), the [`Feed`](crate::handlers::feed::Feed) of
//! a job, and PostgreSQL. So Redis may come and go, and nothing is missed.
//!
//! * [`bridge`] and [`websocket`] lead requests from actix to the engine; a [`session`] is what is known of one client there.
//! * [`handshake`] lets clients in and hears what they say.
//! * A [`hall`] is where the sockets of one organization in this process are told what happens; [`halls`] are all of them.
//!
//! With several processes behind one address, the requests of a client that polls must reach the same process, since
//! they belong together: the load balancer has to be sticky (by address or cookie), or clients use the WebSocket alone
//! (`transports: ["websocket"]`).

pub(crate) mod bridge;
mod hall;
mod halls;
mod handshake;
mod member;
mod run;
mod session;
mod story;
mod websocket;

use crate::state::State;
use actix_web::web;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use halls::Halls;
use http_body_util::Empty;
use hyper::{Request, Response};
use session::{Ended, WaitingRoom};
use shared::models::LiveRun;
use socketioxide::{ParserConfig, SocketIo as Io, layer::SocketIoLayer, service::SocketIoService};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{self, MissedTickBehavior};
use tower::{Layer, Service};
use uuid::Uuid;

/// What a client may send at once: names and ids.
const MAX_PAYLOAD: usize = 64 * 1024;

/// Packets that wait in the engine for one client.
const WAITING: usize = 256;

/// From the first request to credentials.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// How often PostgreSQL is asked what runs, and whether those who listen still may. A lost notice is made good by the
/// one, a session that was ended is noticed by the other.
const ROUND: Duration = Duration::from_secs(2);

/// How far a look into the past overlaps with the one before: what was committed late is seen, too.
const OVERLAP: TimeDelta = TimeDelta::seconds(10);

/// How long clients have to let go when the process stops.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Runs in one look.
const MOST_RUNS: i64 = 5_000;

type Engine = SocketIoService<Nowhere>;

/// Everything of Socket.IO in this process.
pub(crate) struct SocketIo {
    engine: Engine,
    io: Io,
    halls: Arc<Halls>,
    waiting: Arc<WaitingRoom>,
    ended: Arc<Ended>,
}

impl SocketIo {
    /// Makes it ready; [`SocketIo::run`] keeps it going.
    pub(crate) fn new(state: &web::Data<State>) -> Self {
        let parser = ParserConfig::common()
            .max_incoming_binaries(1)
            .max_incoming_binary_buf_size(MAX_PAYLOAD)
            .packet_completion_timeout(INTRODUCTION);
        let (layer, io): (SocketIoLayer, Io) = Io::builder()
            .connect_timeout(INTRODUCTION)
            .max_payload(MAX_PAYLOAD as u64)
            .ws_max_message_size(MAX_PAYLOAD)
            .ws_max_frame_size(MAX_PAYLOAD)
            .max_buffer_size(WAITING)
            .with_parser(parser)
            .build_layer();
        let halls = Arc::new(Halls::default());
        handshake::open(&io, state, &halls);
        let waiting = Arc::new(WaitingRoom::new(state.config.rate_limits));
        Self { engine: layer.layer(Nowhere), io, halls, waiting, ended: Arc::default() }
    }

    /// Looks again and again what runs and who listens, until the process stops; then every client is sent away, to
    /// connect somewhere else.
    pub(crate) async fn run(self: Arc<Self>, state: web::Data<State>) {
        let mut rounds = time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since = None;
        loop {
            tokio::select! {
                _ = rounds.tick() => self.halls.review_all(),
                () = self.halls.looked_for() => {}
                () = state.shutdown.cancelled() => break,
            }
            match look(&state, &self.halls, since).await {
                Ok(looked) => since = looked,
                Err(error) => tracing::debug!(%error, "what runs could not be looked up; trying again"),
            }
        }
        // whoever does not let go in time is cut with the connection
        let _ = time::timeout(LAST_WORD, self.io.close()).await;
    }
}

/// Tells each hall what runs in its organization, or has ended since. `None`: nobody listens.
async fn look(state: &State, halls: &Halls, since: Option<DateTime<Utc>>) -> anyhow::Result<Option<DateTime<Utc>>> {
    let organizations = halls.organizations();
    if organizations.is_empty() {
        return Ok(None);
    }
    let (now, runs) = LiveRun::list(&mut *state.pool.get().await?, &organizations, since, OVERLAP, MOST_RUNS).await?;
    let mut found: HashMap<Uuid, Vec<LiveRun>> = HashMap::new();
    for run in runs {
        found.entry(run.organization_id).or_default().push(run);
    }
    for (organization_id, runs) in found {
        halls.tell(organization_id, hall::Command::Found(runs)).await;
    }
    Ok(Some(now))
}

/// What the engine asks about paths that are not its own; it gets no others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nowhere;

impl<B> Service<Request<B>> for Nowhere {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
        ready(Ok(response))
    }
}
