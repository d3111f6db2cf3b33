//! Live events: one Redis subscriber for the whole process, fanned out to any number of listeners.
//!
//! A listener holds the receiving end of a bounded broadcast channel per topic. One task owns the subscriber connection
//! and makes what is subscribed in Redis equal to what listeners want; because only that task subscribes and
//! unsubscribes, a listener who comes while the last one leaves cannot fall in between. When the connection breaks the
//! task makes a new one, subscribes to everything again, and tells every listener that something may have been missed.

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Messages that a listener may be behind before it loses some.
const BEHIND: usize = 64;

/// How long [`Hub::subscribe`] waits for Redis to confirm.
const CONFIRMATION: Duration = Duration::from_millis(500);

/// How long one command of the subscriber may take, and how often its connection is tried.
const ANSWER: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(5);

/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// A message as it was published.
    Message(Bytes),
    /// The connection to Redis broke and is back: messages may have been lost.
    Resumed,
}

/// The hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    client: redis::Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

#[derive(Default)]
struct Wanted {
    topics: HashMap<String, Topic>,
    /// Topics that got their first listener or lost one since the task looked last.
    changed: Vec<String>,
}

struct Topic {
    wanted_since: Instant,
    /// Redis has confirmed the subscription before, on a connection that broke.
    resumes: bool,
    listeners: broadcast::Sender<Live>,
    /// Whether Redis has confirmed the subscription.
    confirmed: watch::Sender<bool>,
}

/// A listener of one topic. Dropping it ends the subscription.
pub struct Subscription {
    /// What is published from now on. A listener that lags loses the oldest messages and is told so.
    pub receiver: broadcast::Receiver<Live>,
    // declared last: when it is dropped, the receiver is gone already and no longer counted
    _leaver: Leaver,
}

struct Leaver {
    topic: String,
    shared: Arc<Shared>,
}

impl Drop for Leaver {
    fn drop(&mut self) {
        self.shared.lock().changed.push(std::mem::take(&mut self.topic));
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // nothing panics while it is held; were it so, the maps would still be sound
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// A hub on this Redis; [`Hub::run`] makes it work.
    pub fn new(client: redis::Client) -> Self {
        Self { client, shared: Arc::default() }
    }

    /// Listens to a channel of Redis. Subscribe first and read what is stored second, then nothing is missed: what is
    /// published once this has returned is heard. While Redis is away it returns after a moment nevertheless, and
    /// [`Live::Resumed`] comes when Redis is back.
    pub async fn subscribe(&self, channel: &str) -> Subscription {
        let (receiver, mut confirmation) = {
            let mut wanted = self.shared.lock();
            let Wanted { topics, changed } = &mut *wanted;
            let topic = topics.entry(channel.to_owned()).or_insert_with(|| {
                changed.push(channel.to_owned());
                Topic {
                    wanted_since: Instant::now(),
                    resumes: false,
                    listeners: broadcast::Sender::new(BEHIND),
                    confirmed: watch::Sender::new(false),
                }
            });
            (topic.listeners.subscribe(), topic.confirmed.subscribe())
        };
        let leaver = Leaver { topic: channel.to_owned(), shared: Arc::clone(&self.shared) };
        self.shared.changed.notify_one();
        // without an answer the listener goes on with what is stored
        let _ = timeout(CONFIRMATION, confirmation.wait_for(|confirmed| *confirmed)).await;
        Subscription { receiver, _leaver: leaver }
    }

    /// Keeps the subscriber connection until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = Duration::from_millis(50);
        loop {
            let session = async {
                let connected = timeout(ANSWER, self.client.get_async_pubsub()).await;
                let Ok(Ok(connection)) = connected else { return false };
                let (sink, stream) = connection.split();
                let broken = self.serve(sink, stream).await;
                tracing::debug!(reason = broken, "the connection for live events broke");
                true
            };
            let connected = tokio::select! {
                connected = session => connected,
                () = shutdown.cancelled() => return,
            };
            self.unconfirm();
            pause = if connected { Duration::from_millis(50) } else { (pause * 2).min(MAX_PAUSE) };
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Serves one connection until it breaks; says why.
    async fn serve(&self, mut sink: PubSubSink, mut stream: PubSubStream) -> &'static str {
        let mut subscribed: HashSet<String> = HashSet::new();
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        // everything that is wanted counts as changed on a new connection
        let mut changed: Vec<String> = {
            let mut wanted = self.shared.lock();
            wanted.changed.clear();
            wanted.topics.keys().cloned().collect()
        };
        loop {
            // messages that come in meanwhile wait in the stream
            for channel in changed.drain(..) {
                if let Err(reason) = self.follow(&mut sink, &mut subscribed, channel).await {
                    return reason;
                }
            }
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.pass_on(&message),
                    None => return "closed",
                },
                () = self.shared.changed.notified() => changed = std::mem::take(&mut self.shared.lock().changed),
                _ = pings.tick() => {
                    // a peer that vanished without a word is noticed here
                    if !matches!(timeout(ANSWER, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                        return "no answer to a ping";
                    }
                }
            }
        }
    }

    /// Makes the subscription of one channel what its listeners want.
    async fn follow(
        &self,
        sink: &mut PubSubSink,
        subscribed: &mut HashSet<String>,
        channel: String,
    ) -> Result<(), &'static str> {
        let wanted = {
            let mut wanted = self.shared.lock();
            if wanted.topics.get(&channel).is_some_and(|topic| topic.listeners.receiver_count() == 0) {
                wanted.topics.remove(&channel);
            }
            wanted.topics.contains_key(&channel)
        };
        if wanted && !subscribed.contains(&channel) {
            answered(timeout(ANSWER, sink.subscribe(&channel)).await)?;
            if let Some(topic) = self.shared.lock().topics.get_mut(&channel) {
                topic.confirmed.send_replace(true);
                let resumes = std::mem::replace(&mut topic.resumes, true);
                // whoever waits for the first time, and not for long, has not begun to read what is stored
                if resumes || topic.wanted_since.elapsed() >= CONFIRMATION {
                    // nobody listening is no mistake
                    let _ = topic.listeners.send(Live::Resumed);
                }
            }
            subscribed.insert(channel);
        } else if !wanted && subscribed.remove(&channel) {
            answered(timeout(ANSWER, sink.unsubscribe(&channel)).await)?;
        }
        Ok(())
    }

    fn pass_on(&self, message: &redis::Msg) {
        if let Some(topic) = self.shared.lock().topics.get(message.get_channel_name()) {
            let _ = topic.listeners.send(Live::Message(Bytes::copy_from_slice(message.get_payload_bytes())));
        }
    }

    fn unconfirm(&self) {
        for topic in self.shared.lock().topics.values() {
            topic.confirmed.send_replace(false);
        }
    }
}

fn answered<E>(answer: Result<redis::RedisResult<()>, E>) -> Result<(), &'static str> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("a command failed"),
        Err(_) => Err("no answer in time"),
    }
}
