//! The events of one job as server-sent events: all that were stored, and then each as it comes.
//!
//! Like the socket of analyses this subscribes first, reads the stored events second and takes live ones third. A few
//! events wait in a bounded channel; a client that does not read them is left, and goes on later with `Last-Event-ID`.

use super::{feed::Feed, socket_slots::Slot};
use crate::{
    auth::Caller,
    error::{ApiError, Code},
    state::State,
    views::PublicEvent,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, HeaderName},
    web::{self, Bytes},
};
use futures_util::stream;
use serde::Deserialize;
use shared::{events::Event, models::Job};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};
use utoipa::IntoParams;

/// How often something is sent, so that proxies keep the connection and a client that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long one event may wait for a slow client.
const SEND: Duration = Duration::from_secs(5);

/// Pieces that wait for the client.
const WAITING: usize = 32;

/// The number that a browser sends when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The `id` of the last event that was received; only what came after it is sent. The header `Last-Event-ID` wins.
    pub(super) last_event_id: Option<String>,
}

/// Opens the stream over a job that the caller may follow. `kind`: what five at once are counted by; `tell`: the public form
/// of an event.
///
/// # Errors
/// 429 if five are open.
pub(super) async fn open(
    state: web::Data<State>,
    caller: &Caller,
    kind: &'static str,
    job: &Job,
    last: i32,
    tell: impl FnMut(&Event) -> PublicEvent + Send + Sync + 'static,
) -> Result<HttpResponse, ApiError> {
    if job.status.is_final() && last >= job.last_seq {
        return Ok(HttpResponse::NoContent().finish());
    }
    let Some(slot) = Slot::take(&state, kind, caller.user_id).await else {
        return Err(ApiError::new(Code::RateLimited, "Too many open streams: at most five at once").with_retry_after(5));
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let follower = Follower { sender, tell };
    let (sockets, id) = (state.sockets.clone(), job.id);
    sockets.spawn(async move {
        let feed = Feed::follow(&state, id, last);
        follower.relay(&state, &slot, feed).await;
        slot.give_back().await;
    });
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok::<Bytes, Infallible>(piece), receiver))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        // what nginx would hold back otherwise
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// The number of the last event that the client has received.
///
/// # Errors
/// 400 unless it is a number.
pub(super) fn last_event_id(request: &HttpRequest, query: EventsQuery) -> Result<i32, ApiError> {
    let header =
        request.headers().get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let Some(sent) = header.or(query.last_event_id).filter(|sent| !sent.trim().is_empty()) else { return Ok(0) };
    let number = sent.trim().parse::<i32>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| ApiError::invalid_field("last_event_id", "must be the id of an event, a whole number"))
}

/// Nothing more is to be done for this client.
struct Over;

/// One client.
struct Follower<T> {
    sender: mpsc::Sender<Bytes>,
    tell: T,
}

impl<T: FnMut(&Event) -> PublicEvent> Follower<T> {
    /// Sends the events until the job has ended, the client has gone, or the process stops.
    async fn relay(mut self, state: &State, slot: &Slot, mut feed: Feed) {
        let mut heartbeat = time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gone = self.sender.clone();
        loop {
            let over = tokio::select! {
                events = feed.next() => match events {
                    Some(events) => self.send_all(events).await,
                    None => return,
                },
                _ = heartbeat.tick() => {
                    slot.renew().await;
                    // the first one comes at once: the client sees that it is connected
                    self.put(Bytes::from_static(b": still here\n\n")).await
                }
                () = gone.closed() => return,
                () = state.shutdown.cancelled() => return,
            };
            if over.is_err() {
                return;
            }
        }
    }

    async fn send_all(&mut self, events: Vec<Arc<Event>>) -> Result<(), Over> {
        for event in events {
            self.send(&event).await?;
        }
        Ok(())
    }

    async fn send(&mut self, event: &Event) -> Result<(), Over> {
        let event = (self.tell)(event);
        self.put(frame(&event)).await?;
        if event.is_last { Err(Over) } else { Ok(()) }
    }

    async fn put(&self, piece: Bytes) -> Result<(), Over> {
        match time::timeout(SEND, self.sender.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }
}

/// An event as it goes over the line. JSON has no line breaks outside of its texts, and within them they are escaped.
fn frame(PublicEvent { name, seq, data, .. }: &PublicEvent) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {seq}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_block_whatever_it_says() {
        let data = json!({ "message": "two\nlines\r\nand a quote \"" });
        let text = frame(&PublicEvent { name: "execution:log", seq: 7, data: data.clone(), is_last: false });
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["event: execution:log", "id: 7"]);
        assert_eq!(lines[2].strip_prefix("data: "), Some(data.to_string().as_str()));
        assert_eq!((lines.len(), text.ends_with("\n\n")), (4, true));
    }
}
