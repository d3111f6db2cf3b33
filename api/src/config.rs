//! The settings of the API, read once from the environment.

use crate::auth::passwords::PasswordPolicy;
use ipnet::IpNet;
use shared::{
    addresses::Reach,
    config::{ConfigError, ObjectStore, Postgres, Reader, Redis, Secret, Telemetry},
    limits::Limits,
    llm::Catalogue,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};
use url::Url;

/// Fewest bytes of a signing secret: as many as HS256 has.
const SECRET_BYTES: usize = 32;

/// Everything the API can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub bind: SocketAddr,
    /// Threads that serve requests.
    pub threads: usize,
    /// Where the truth is kept.
    pub postgres: Postgres,
    /// Where the hints are kept.
    pub redis: Redis,
    /// Where image bytes are kept.
    pub objects: ObjectStore,
    /// How to log.
    pub telemetry: Telemetry,
    /// The language models that clients may name.
    pub models: Arc<Catalogue>,
    /// What access tokens are signed with.
    pub jwt_secret: Secret,
    /// How long an access token is good.
    pub access_token_ttl: Duration,
    /// How long a refresh token is good.
    pub refresh_token_ttl: Duration,
    /// Base of absolute URLs; without it the request's `Host` is used.
    pub public_url: Option<Url>,
    /// `false` lifts the limits on requests and open sockets.
    pub rate_limits: bool,
    /// How fast requests may come, and how many may be spent.
    pub limits: Arc<Limits>,
    /// What a password must be like.
    pub password_policy: PasswordPolicy,
    /// Whose pages may call the API; `*` for all.
    pub cors_origins: Vec<String>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What webhooks and call backs of runs may lead to.
    pub callbacks: Reach,
    /// How long requests in work may take to finish when the process is asked to stop.
    pub shutdown_grace: Duration,
}

impl Config {
    /// Reads the process environment; the error lists every problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(Reader::from_env())
    }

    /// Reads settings from `from`; the error lists every problem.
    pub fn read(mut from: Reader) -> Result<Self, ConfigError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let config = Self {
            bind: from.or("ATELIER_BIND", SocketAddr::from(([127, 0, 0, 1], 3000))),
            threads: from.or("ATELIER_API_THREADS", cores),
            postgres: Postgres::read(&mut from, 16),
            // a request may wait for Redis, but not for long
            redis: Redis::read(&mut from, Duration::from_millis(500)),
            objects: ObjectStore::read(&mut from),
            telemetry: Telemetry::read(&mut from),
            models: Arc::new(Catalogue::read(&mut from)),
            jwt_secret: from
                .required("ATELIER_JWT_SECRET", "at least 32 random bytes, from `openssl rand -hex 32` say"),
            access_token_ttl: from.seconds("ATELIER_ACCESS_TOKEN_TTL", 3600),
            refresh_token_ttl: from.seconds("ATELIER_REFRESH_TOKEN_TTL", 30 * 24 * 3600),
            public_url: from.optional("ATELIER_PUBLIC_URL"),
            rate_limits: from.switch("ATELIER_RATE_LIMITS", true),
            limits: Arc::new(Limits::read(&mut from)),
            password_policy: from.or("ATELIER_PASSWORD_POLICY", PasswordPolicy::default()),
            cors_origins: from
                .or("ATELIER_CORS_ORIGINS", String::new())
                .split(',')
                .map(|origin| origin.trim().trim_end_matches('/').to_owned())
                .filter(|origin| !origin.is_empty())
                .collect(),
            trusted_proxies: networks(&mut from, "ATELIER_TRUSTED_PROXIES"),
            callbacks: Reach::read(&mut from),
            shutdown_grace: from.seconds("ATELIER_SHUTDOWN_GRACE", 30),
        };
        config.check(&mut from);
        from.finish(config)
    }

    fn check(&self, problems: &mut Reader) {
        let secret = self.jwt_secret.expose().len();
        if (1..SECRET_BYTES).contains(&secret) {
            problems
                .problem(format!("ATELIER_JWT_SECRET: {secret} bytes are too few, at least {SECRET_BYTES} are needed"));
        }
        if self.threads == 0 {
            problems.problem("ATELIER_API_THREADS: at least 1");
        }
        if self.access_token_ttl.is_zero() || self.access_token_ttl > self.refresh_token_ttl {
            problems.problem("ATELIER_ACCESS_TOKEN_TTL: between 1 second and ATELIER_REFRESH_TOKEN_TTL");
        }
        for origin in self.cors_origins.iter().filter(|origin| *origin != "*") {
            if Url::parse(origin).is_err() {
                problems
                    .problem(format!("ATELIER_CORS_ORIGINS: {origin:?} is no origin such as https://app.example.com"));
            }
        }
    }
}

/// Networks or single addresses, separated by commas.
fn networks(from: &mut Reader, name: &str) -> Vec<IpNet> {
    let listed = from.or(name, String::new());
    let words = listed.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut networks = Vec::new();
    for word in words {
        match word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => from.problem(format!("{name}: {word:?} is no network such as 10.0.0.0/8")),
        }
    }
    networks
}

/// Settings that name nothing real.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
pub(crate) fn for_tests() -> Config {
    Config::read(tests::variables(&[])).unwrap()
}

/// For extractors that check new passwords.
impl From<&Config> for PasswordPolicy {
    fn from(config: &Config) -> Self {
        config.password_policy
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    pub(super) fn variables(change: &[(&str, &str)]) -> Reader {
        let mut all = vec![
            ("DATABASE_URL", "postgres://localhost/atelier"),
            ("REDIS_URL", "redis://localhost"),
            ("ATELIER_S3_ENDPOINT", "http://localhost:9000"),
            ("ATELIER_S3_ACCESS_KEY", "key"),
            ("ATELIER_S3_SECRET_KEY", "secret"),
            ("ATELIER_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ];
        all.retain(|(name, _)| !change.iter().any(|(changed, _)| changed == name));
        all.extend_from_slice(change);
        Reader::new(all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())))
    }

    #[test]
    fn what_is_documented_is_the_default() {
        let config = Config::read(variables(&[])).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:3000");
        assert_eq!(config.access_token_ttl.as_secs(), 3600);
        assert!(config.rate_limits);
        assert!(config.cors_origins.is_empty());
    }

    #[test]
    fn a_missing_or_short_signing_secret_stops_the_start() {
        for (value, hint) in [("", "ATELIER_JWT_SECRET is not set"), ("short", "5 bytes are too few")] {
            let problems = Config::read(variables(&[("ATELIER_JWT_SECRET", value)])).unwrap_err().to_string();
            assert!(problems.contains(hint), "{problems}");
        }
    }

    #[test]
    fn every_problem_is_reported() {
        let problems = Config::read(variables(&[
            ("ATELIER_BIND", "here"),
            ("ATELIER_ACCESS_TOKEN_TTL", "0"),
            ("ATELIER_PASSWORD_POLICY", "lax"),
            ("ATELIER_CORS_ORIGINS", "https://a.example, nonsense"),
        ]))
        .unwrap_err();
        assert_eq!(problems.0.len(), 4, "{problems}");
    }
}
