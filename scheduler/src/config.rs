//! Settings of the scheduler.

use shared::{
    config::{ConfigError, ObjectStore, Postgres, Reader, Redis, Telemetry},
    limits::Limits,
};
use std::{net::SocketAddr, time::Duration};

/// The shortest time after which a running job may be taken from its worker. Workers give a sign of life every three
/// seconds; less than three of those would take jobs from workers that are merely slow.
const SHORTEST_SILENCE: Duration = Duration::from_secs(10);

/// The longest retention that still fits a date.
const LONGEST_DAYS: u32 = 36_500;

/// Everything the scheduler is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the truth is kept.
    pub postgres: Postgres,
    /// Where the hints are kept.
    pub redis: Redis,
    /// Where image bytes are kept.
    pub store: ObjectStore,
    /// How to log.
    pub telemetry: Telemetry,
    /// Where `/health` and `/metrics` are answered; nowhere if absent.
    pub bind: Option<SocketAddr>,
    /// How often each chore has its turn.
    pub pace: Pace,
    /// How long things are kept.
    pub retention: Retention,
    /// How many runs a schedule's creator may have.
    pub limits: Limits,
}

/// How often each chore has its turn.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Between two looks for waiting jobs that Redis has lost.
    pub requeue: Duration,
    /// Between two looks for jobs of silent workers.
    pub rescue: Duration,
    /// How long a worker may be silent before its jobs are taken from it.
    pub silence: Duration,
    /// Between two looks for schedules of pipelines that are due.
    pub cron: Duration,
    /// Between two deletions of what is too old.
    pub prune: Duration,
    /// Between two deletions of objects whose rows are gone.
    pub objects: Duration,
}

/// How long things are kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Ended jobs with their steps and events.
    pub jobs: Duration,
    /// Login sessions that ended, or that nobody can refresh any more.
    pub sessions: Duration,
    /// Uploads that were announced and never came, or that were begun and never came to their end.
    pub uploads: Duration,
    /// Webhook deliveries and mails with their jobs.
    pub deliveries: Duration,
    /// Usage records, the sums of usage, and what was spent of budgets.
    pub usage: Duration,
    /// The log of what changed access.
    pub audit: Duration,
}

impl Config {
    /// Reads the process environment; the error names every problem at once.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(Reader::from_env())
    }

    /// Reads settings from `from`; the error names every problem at once.
    pub fn read(mut from: Reader) -> Result<Self, ConfigError> {
        let from_env = &mut from;
        let config = Self {
            postgres: Postgres::read(from_env, 4),
            redis: Redis::read(from_env, Duration::from_secs(5)),
            store: ObjectStore::read(from_env),
            telemetry: Telemetry::read(from_env),
            bind: from_env.optional("ATELIER_SCHEDULER_BIND"),
            pace: Pace::read(from_env),
            retention: Retention::read(from_env),
            limits: Limits::read(from_env),
        };
        from.finish(config)
    }
}

impl Pace {
    fn read(from: &mut Reader) -> Self {
        let pace = Self {
            requeue: interval(from, "ATELIER_REQUEUE_EVERY", 5),
            rescue: interval(from, "ATELIER_RESCUE_EVERY", 2),
            silence: interval(from, "ATELIER_SILENCE", 15),
            cron: interval(from, "ATELIER_CRON_EVERY", 1),
            prune: interval(from, "ATELIER_PRUNE_EVERY", 600),
            objects: interval(from, "ATELIER_OBJECTS_EVERY", 15),
        };
        if pace.silence < SHORTEST_SILENCE {
            from.problem(format!(
                "ATELIER_SILENCE: workers give a sign of life every 3 seconds; use {} or more",
                SHORTEST_SILENCE.as_secs()
            ));
        }
        pace
    }
}

impl Retention {
    fn read(from: &mut Reader) -> Self {
        Self {
            jobs: days(from, "ATELIER_JOB_RETENTION_DAYS", 90),
            sessions: days(from, "ATELIER_SESSION_RETENTION_DAYS", 30),
            uploads: days(from, "ATELIER_UPLOAD_RETENTION_DAYS", 1),
            deliveries: days(from, "ATELIER_DELIVERY_RETENTION_DAYS", 30),
            usage: days(from, "ATELIER_USAGE_RETENTION_DAYS", 400),
            audit: days(from, "ATELIER_AUDIT_RETENTION_DAYS", 400),
        }
    }
}

fn interval(from: &mut Reader, name: &str, default: u64) -> Duration {
    let interval = from.seconds(name, default);
    if interval.is_zero() || interval > Duration::from_secs(86_400) {
        from.problem(format!("{name}: use a number of seconds from 1 to 86400"));
    }
    interval
}

fn days(from: &mut Reader, name: &str, default: u32) -> Duration {
    let days = from.or(name, default);
    if !(1..=LONGEST_DAYS).contains(&days) {
        from.problem(format!("{name}: use a number of days from 1 to {LONGEST_DAYS}"));
    }
    Duration::from_secs(u64::from(days) * 86_400)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn read(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let needed = [
            ("DATABASE_URL", "postgres://localhost/atelier"),
            ("REDIS_URL", "redis://localhost"),
            ("ATELIER_S3_ENDPOINT", "http://localhost:9000"),
            ("ATELIER_S3_ACCESS_KEY", "key"),
            ("ATELIER_S3_SECRET_KEY", "secret"),
        ];
        let variables = needed.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::read(Reader::new(variables))
    }

    #[test]
    fn the_addresses_are_enough() {
        let config = read(&[]).unwrap();
        assert_eq!(config.pace.silence, Duration::from_secs(15));
        assert_eq!(config.retention.jobs, Duration::from_secs(90 * 86_400));
        assert_eq!(config.bind, None);
    }

    #[test]
    fn what_would_harm_is_refused_all_at_once() {
        let error = read(&[
            ("ATELIER_SILENCE", "4"),
            ("ATELIER_REQUEUE_EVERY", "0"),
            ("ATELIER_JOB_RETENTION_DAYS", "0"),
            ("ATELIER_SCHEDULER_BIND", "somewhere"),
        ])
        .unwrap_err();
        assert_eq!(error.0.len(), 4, "{error}");
    }
}
