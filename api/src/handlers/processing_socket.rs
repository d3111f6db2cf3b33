//! `/ws/processing/{job_id}`: the events of one analysis, all that were stored and then each as it comes.
//!
//! The handshake is always accepted, because a browser cannot read why one was refused; what is wrong is told by the
//! close code. The socket subscribes first, reads the stored events second and takes live ones third, so nothing is
//! missed. Redis may lose a message or be away: a gap in the numbers, or a few seconds, make it look into the table.

use super::{
    feed::Feed,
    socket::{Close, Ended, Heard, PING, Socket, not_a_socket},
    socket_slots::Slot,
};
use crate::{
    auth::{Caller, caller::Shown, permissions::Permission},
    rules::Keys,
    state::State,
    views::Frame,
};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Deserialize;
use shared::{events::Event, kind::Kind, models::Job};
use std::sync::Arc;
use tokio::time;
use utoipa::IntoParams;
use uuid::Uuid;

/// Clients have nothing to say here beyond pings.
const MAX_FRAME: usize = 4096;

/// How the socket is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SocketQuery {
    /// An access token, where neither `Authorization` nor `X-API-Key` can be sent.
    token: Option<String>,
    /// The `seq` of the last frame that was received; only what came after it is sent.
    last_event_id: Option<String>,
}

/// Follow a job
///
/// A WebSocket. Sends every event of the job from the first on, or from `last_event_id`, and closes with 1000 after the
/// last. 4001: no valid token; 4003: not your job; 4008: you read too slowly; 4029: more than five sockets are open.
#[utoipa::path(
    tag = "jobs",
    params(("job_id" = Uuid, Path), SocketQuery),
    responses(
        (status = 101, description = "The socket is open"),
        (status = 400, description = "Not a WebSocket handshake"),
    ),
)]
#[get("/ws/processing/{job_id}")]
pub(crate) async fn follow_job(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    job_id: web::Path<String>,
    query: web::Query<SocketQuery>,
) -> actix_web::Result<HttpResponse> {
    let (response, session, stream) = actix_ws::handle(&request, body).map_err(not_a_socket)?;
    let stream = stream.max_frame_size(MAX_FRAME).aggregate_continuations().max_continuation_size(MAX_FRAME);
    let SocketQuery { token, last_event_id } = query.into_inner();
    let shown = token.as_deref().map(Shown::token).or_else(|| Shown::of(&request));
    let last = last_event_id.and_then(|id| id.parse().ok()).unwrap_or(0).max(0);
    let sockets = state.sockets.clone();
    sockets.spawn_local(async move {
        let mut socket = Socket::new(session, stream);
        let ended = serve(&mut socket, &state, shown, &job_id, last).await;
        socket.close(ended).await;
    });
    Ok(response)
}

/// Lets the caller in, follows the job, and gives the caller's slot back.
async fn serve(socket: &mut Socket, state: &State, shown: Option<Shown>, job_id: &str, last: i32) -> Ended {
    let Some(shown) = shown else { return Some(Close::Unauthenticated) };
    let caller = match Caller::from_shown(state, &shown).await {
        Ok(caller) => caller,
        Err(error) if error.code().status().is_server_error() => return Some(Close::TryAgain),
        Err(_) => return Some(Close::Unauthenticated),
    };
    if caller.require(Keys::With(Permission::AnalysisRead)).is_err() {
        return Some(Close::Denied);
    }
    caller.count_use(state);
    let Ok(job_id) = job_id.parse::<Uuid>() else { return Some(Close::Denied) };
    match may_follow(state, job_id, caller.user_id).await {
        Ok(true) => {}
        Ok(false) => return Some(Close::Denied),
        Err(error) => {
            tracing::warn!(%error, %job_id, "a socket could not look up its job");
            return Some(Close::TryAgain);
        }
    }
    let Some(slot) = Slot::take(state, "processing", caller.user_id).await else { return Some(Close::TooMany) };
    let ended = relay(socket, state, &slot, Feed::follow(state, job_id, last)).await;
    slot.give_back().await;
    ended
}

async fn may_follow(state: &State, job_id: Uuid, user_id: Uuid) -> anyhow::Result<bool> {
    let job = Job::find(&mut *state.pool.get().await?, job_id, user_id).await?;
    Ok(job.is_some_and(|job| job.kind == Kind::ImageAnalysis))
}

/// Sends the events until the job has ended or the client has gone.
async fn relay(socket: &mut Socket, state: &State, slot: &Slot, mut feed: Feed) -> Ended {
    let mut ping = time::interval_at(time::Instant::now() + PING, PING);
    loop {
        tokio::select! {
            events = feed.next() => match events {
                Some(events) => if let Some(ended) = send(socket, events).await { return ended },
                None => return Some(Close::Done),
            },
            heard = socket.hear() => if let Heard::End(ended) = heard { return ended },
            _ = ping.tick() => {
                if let Some(ended) = socket.ping().await { return ended }
                slot.renew().await;
            }
            () = state.shutdown.cancelled() => return Some(Close::GoingAway),
        }
    }
}

/// Sends events in order; the last one of a job is the last one here. `Some` when there is nothing more to do.
async fn send(socket: &mut Socket, events: Vec<Arc<Event>>) -> Option<Ended> {
    for event in events {
        let is_last = Frame::is_last(&event);
        let Some(frame) = Frame::new(&event) else { continue };
        if let Some(ended) = socket.send(&frame).await {
            return Some(ended);
        }
        if is_last {
            return Some(Some(Close::Done));
        }
    }
    None
}
