//! Settings that several binaries share: where Postgres, Redis and the object store are, and how to log.
//!
//! Each binary reads its settings once, in `main`, through a [`Reader`]. The reader collects every problem, so that an
//! operator who made three mistakes hears of all three at once.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// A value that must not show up in a log: its `Debug` is a row of dots.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; say why at the call if it is not obvious.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(Self(value.to_owned()))
    }
}

/// Everything that was wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("the settings are not usable:\n{}", .0.iter().map(|p| format!("  - {p}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Reads typed settings from the environment and remembers every problem it meets.
pub struct Reader {
    variables: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    /// Reads the process environment. An empty variable counts as absent.
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    pub fn from_env() -> Self {
        Self::new(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// Reads the given variables instead of the environment.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Self { variables, problems: Vec::new() }
    }

    /// Whether `name` is set.
    pub fn is_set(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// Sets `name`, whatever it was before.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// The parsed value of `name`, if it is set.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let value = self.variables.get(name)?;
        match value.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.problem(format!("{name}: {error}"));
                None
            }
        }
    }

    /// The parsed value of `name`, or `default`.
    pub fn or<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// The parsed value of `name`; its absence is a problem, described by `hint`.
    pub fn required<T: FromStr<Err: fmt::Display> + Default>(&mut self, name: &str, hint: &str) -> T {
        if !self.variables.contains_key(name) {
            self.problem(format!("{name} is not set: {hint}"));
        }
        self.optional(name).unwrap_or_default()
    }

    /// `on` or `off`.
    pub fn switch(&mut self, name: &str, default: bool) -> bool {
        match self.variables.get(name).map(String::as_str) {
            None => default,
            Some("on" | "true" | "1") => true,
            Some("off" | "false" | "0") => false,
            Some(other) => {
                let problem = format!("{name}: {other:?} is neither on nor off");
                self.problem(problem);
                default
            }
        }
    }

    /// A whole number of seconds.
    pub fn seconds(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.or(name, default))
    }

    /// Notes a problem, to be reported with all others by [`Reader::finish`].
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// The settings, if nothing was wrong with any of them.
    pub fn finish<T>(self, settings: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(settings) } else { Err(ConfigError(self.problems)) }
    }
}

/// Where the truth is kept.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database`; `sslmode=require` turns on TLS.
    pub url: Secret,
    /// Connections held by one process.
    pub pool_size: usize,
}

impl Postgres {
    /// Reads `DATABASE_URL` and `ATELIER_DATABASE_POOL` (default: `pool_size`).
    pub fn read(from: &mut Reader, pool_size: usize) -> Self {
        let url =
            from.required("DATABASE_URL", "the address of PostgreSQL, postgres://user:password@host:5432/atelier");
        Self { url, pool_size: from.or("ATELIER_DATABASE_POOL", pool_size) }
    }
}

/// Where the hints are kept.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://[:password@]host:port/db`.
    pub url: Secret,
    /// Prefix of every key and channel; installations that share a Redis differ here.
    pub prefix: String,
    /// How long one command may take before it counts as failed.
    pub response_timeout: Duration,
}

impl Redis {
    /// Reads `REDIS_URL` and `ATELIER_REDIS_PREFIX`. The API waits less long for Redis than a worker may.
    pub fn read(from: &mut Reader, response_timeout: Duration) -> Self {
        let url = from.required("REDIS_URL", "the address of Redis or Valkey, redis://:password@host:6379/0");
        let prefix: String = from.or("ATELIER_REDIS_PREFIX", "atelier".to_owned());
        if prefix.contains(['{', '}', '*', '?', '[', ' ']) {
            from.problem(format!("ATELIER_REDIS_PREFIX: {prefix:?} holds one of {{}}*?[ or a space"));
        }
        Self { url, prefix, response_timeout }
    }

    /// A connection that reconnects by itself; cheap to clone, shared by a whole process.
    ///
    /// It is made lazily: a process may start, and an API may accept work, while Redis is away.
    pub fn connect(&self) -> redis::RedisResult<redis::aio::ConnectionManager> {
        let settings = redis::aio::ConnectionManagerConfig::new()
            .set_response_timeout(Some(self.response_timeout))
            .set_connection_timeout(Some(self.response_timeout.min(Duration::from_secs(1))))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        redis::aio::ConnectionManager::new_lazy_with_config(self.client()?, settings)
    }

    /// The client behind [`Redis::connect`], for a connection of another kind (a subscriber).
    pub fn client(&self) -> redis::RedisResult<redis::Client> {
        redis::Client::open(self.url.expose())
    }
}

/// Where image bytes are kept: any S3 API.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    /// `http://host:port` as this process reaches it.
    pub endpoint: String,
    /// The same store as clients reach it; presigned URLs carry this host.
    pub public_endpoint: String,
    /// The one bucket.
    pub bucket: String,
    /// Region name that signatures carry.
    pub region: String,
    /// Access key id.
    pub access_key: Secret,
    /// Secret access key.
    pub secret_key: Secret,
}

impl ObjectStore {
    /// Reads the `ATELIER_S3_*` variables.
    pub fn read(from: &mut Reader) -> Self {
        let endpoint: String =
            from.required("ATELIER_S3_ENDPOINT", "the address of the S3 store, http://host:9000 for example");
        Self {
            public_endpoint: from.or("ATELIER_S3_PUBLIC_ENDPOINT", endpoint.clone()),
            endpoint,
            bucket: from.or("ATELIER_S3_BUCKET", "atelier".to_owned()),
            region: from.or("ATELIER_S3_REGION", "us-east-1".to_owned()),
            access_key: from.required("ATELIER_S3_ACCESS_KEY", "the access key id of the S3 store"),
            secret_key: from.required("ATELIER_S3_SECRET_KEY", "the secret access key of the S3 store"),
        }
    }
}

/// How to log.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Filter in tracing's syntax, `info,api=debug`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Telemetry {
    /// Reads `ATELIER_LOG` and `ATELIER_LOG_FORMAT`.
    pub fn read(from: &mut Reader) -> Self {
        let format: String = from.or("ATELIER_LOG_FORMAT", "text".to_owned());
        if !["text", "json"].contains(&format.as_str()) {
            from.problem(format!("ATELIER_LOG_FORMAT: {format:?} is neither text nor json"));
        }
        Self { filter: from.or("ATELIER_LOG", "info".to_owned()), json: format == "json" }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn reader(variables: &[(&str, &str)]) -> Reader {
        Reader::new(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn all_problems_are_reported_together() {
        let mut from = reader(&[("ATELIER_DATABASE_POOL", "many"), ("ATELIER_LOG_FORMAT", "xml")]);
        Postgres::read(&mut from, 4);
        Telemetry::read(&mut from);
        let error = from.finish(()).unwrap_err().to_string();
        for part in ["DATABASE_URL is not set", "ATELIER_DATABASE_POOL", "\"xml\" is neither"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let mut from = reader(&[("DATABASE_URL", "postgres://me:hidden@host/db")]);
        let postgres = Postgres::read(&mut from, 4);
        assert!(!format!("{postgres:?}").contains("hidden"));
        assert_eq!(postgres.url.expose(), "postgres://me:hidden@host/db");
    }
}
