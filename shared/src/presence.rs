//! Which workers are there, for an operator to see. Workers say so in Redis every few seconds; nothing depends on it.
//!
//! One sorted set for all: a member is what a worker says of itself, the score when it last did. Who was silent for a
//! minute is dropped by whoever speaks next, so that the set stays as small as the installation.

use chrono::{DateTime, TimeDelta, Utc};
use redis::{AsyncCommands, RedisResult, aio::ConnectionManager};
use serde::{Deserialize, Serialize};

/// Silent for so long, a worker is not there any more.
const SILENCE: TimeDelta = TimeDelta::seconds(20);

/// Silent for so long, it is forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::seconds(60);

/// What a worker says of itself. It never changes while the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Its name, unique for each start of a process.
    pub worker: String,
    /// Version of the program.
    pub version: String,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// How many jobs it can have in work.
    pub slots: usize,
    /// Since when.
    pub started_at: DateTime<Utc>,
}

fn key(prefix: &str) -> String {
    format!("{prefix}:workers")
}

impl Presence {
    /// Says that the worker is there.
    pub async fn announce(&self, redis: &ConnectionManager, prefix: &str) -> RedisResult<()> {
        let (key, now) = (key(prefix), Utc::now());
        let forgotten = (now - FORGOTTEN).timestamp_millis();
        redis::pipe()
            .zadd(&key, self.member(), now.timestamp_millis())
            .ignore()
            .zrembyscore(&key, 0, forgotten)
            .ignore()
            .query_async(&mut redis.clone())
            .await
    }

    /// Says that the worker goes.
    pub async fn withdraw(&self, redis: &ConnectionManager, prefix: &str) -> RedisResult<()> {
        redis.clone().zrem(key(prefix), self.member()).await
    }

    /// The workers that are there, with when they last said so.
    pub async fn list(redis: &ConnectionManager, prefix: &str) -> RedisResult<Vec<(Self, DateTime<Utc>)>> {
        let since = (Utc::now() - SILENCE).timestamp_millis();
        let found: Vec<(String, f64)> = redis.clone().zrangebyscore_withscores(key(prefix), since, "+inf").await?;
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this era fit exactly")]
        let seen = |score: f64| DateTime::from_timestamp_millis(score as i64);
        // what cannot be read was said by another version of the program
        let read = |(member, score): (String, f64)| Some((serde_json::from_str(&member).ok()?, seen(score)?));
        Ok(found.into_iter().filter_map(read).collect())
    }

    fn member(&self) -> String {
        // a struct of texts and numbers always serializes
        serde_json::to_string(self).unwrap_or_default()
    }
}
