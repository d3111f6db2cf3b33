//! One test's world: a database, a Redis prefix, and the binaries running on them.

use crate::{
    client::{Client, Member},
    llm_peer::LlmPeer,
    process::Process,
    running::{Api, Running},
    servers::{BUCKET, Servers, TEMPLATE},
};
use diesel::{QueryableByName, sql_types::BigInt};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use redis::aio::ConnectionManager;
use shared::{
    config::{Postgres, Reader, Redis},
    db::{Connection, Pool},
    queue::Queue,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::block_in_place;
use uuid::Uuid;

/// A database and a Redis prefix of its own on the servers of this run.
pub struct World {
    /// The servers it is on.
    pub servers: &'static Servers,
    /// Its database.
    pub pool: Pool,
    /// Its Redis.
    pub redis: ConnectionManager,
    /// The prefix of its keys and channels.
    pub prefix: String,
    own_redis: Option<Mutex<standalone::services::Redis>>,
    own_postgres: Option<Mutex<standalone::services::Postgres>>,
    database: String,
    name: String,
    settings: Vec<(String, String)>,
    started: AtomicUsize,
}

impl World {
    /// A new world on the shared servers.
    pub async fn new() -> Self {
        Self::build(None, None).await
    }

    /// A new world whose Redis the test may stop, restart and empty.
    pub async fn with_own_redis() -> Self {
        let servers = Servers::shared().await;
        let name = format!("redis_{}", Uuid::now_v7().simple());
        let redis = tokio::task::spawn_blocking(move || servers.own_redis(&name)).await.unwrap();
        Self::build(Some(redis), None).await
    }

    /// A new world whose PostgreSQL the test may stop and restart.
    pub async fn with_own_postgres() -> Self {
        let servers = Servers::shared().await;
        let name = format!("postgres_{}", Uuid::now_v7().simple());
        let postgres = tokio::task::spawn_blocking(move || servers.own_postgres(&name)).await.unwrap();
        shared::db::migrate(&postgres.url("postgres")).await.unwrap();
        Self::build(None, Some(postgres)).await
    }

    async fn build(
        own_redis: Option<standalone::services::Redis>,
        own_postgres: Option<standalone::services::Postgres>,
    ) -> Self {
        let servers = Servers::shared().await;
        let name = format!("t_{}", Uuid::now_v7().simple());
        let database = match &own_postgres {
            Some(postgres) => postgres.url("postgres"),
            None => {
                servers.execute(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
                servers.database(&name)
            }
        };
        let redis_url = own_redis.as_ref().map_or_else(|| servers.redis(), standalone::services::Redis::url);
        let s3 = servers.s3();
        let settings: Vec<(String, String)> = [
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", &redis_url),
            ("ATELIER_REDIS_PREFIX", &name),
            ("ATELIER_DATABASE_POOL", "8"),
            ("ATELIER_S3_ENDPOINT", &s3.endpoint()),
            ("ATELIER_S3_BUCKET", BUCKET),
            ("ATELIER_S3_ACCESS_KEY", s3.access_key()),
            ("ATELIER_S3_SECRET_KEY", s3.secret_key()),
            ("ATELIER_JWT_SECRET", "a secret of the tests, long enough for HS256"),
            ("ATELIER_BIND", "127.0.0.1:0"),
            ("ATELIER_API_THREADS", "1"),
            // tests of limits switch them on
            ("ATELIER_RATE_LIMITS", "off"),
            ("ATELIER_VISION_THREADS", "1"),
            ("ATELIER_MODELS_DIR", &crate::project_root().join("models").display().to_string()),
            ("ORT_DYLIB_PATH", &crate::onnxruntime().display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let mut from = Reader::new(settings.clone());
        let pool = shared::db::pool(&Postgres::read(&mut from, 8)).unwrap();
        let redis = Redis::read(&mut from, Duration::from_secs(5)).connect().unwrap();
        Self {
            servers,
            pool,
            redis,
            prefix: name.clone(),
            own_redis: own_redis.map(Mutex::new),
            own_postgres: own_postgres.map(Mutex::new),
            database,
            name,
            settings,
            started: AtomicUsize::new(0),
        }
    }

    /// The settings of this world, with changes.
    pub fn settings(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut settings = self.settings.clone();
        settings.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        settings.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        settings
    }

    /// A connection to the database.
    pub async fn conn(&self) -> Connection {
        self.pool.get().await.unwrap()
    }

    /// Runs SQL statements, one or several.
    pub async fn run_sql(&self, statements: &str) {
        self.conn().await.batch_execute(statements).await.unwrap();
    }

    /// How many rows there are in `from`: a table, with a condition if one is wanted.
    pub async fn count_rows(&self, from: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            rows: i64,
        }
        let count = format!("SELECT count(*) AS rows FROM {from}");
        diesel::sql_query(count).get_result::<Count>(&mut self.conn().await).await.unwrap().rows
    }

    /// The URL of its database.
    pub fn database(&self) -> String {
        self.database.clone()
    }

    /// A queue of this world.
    pub fn queue(&self, name: &str) -> Queue {
        Queue::new(self.redis.clone(), &self.prefix, name)
    }

    /// Does something to the Redis of [`World::with_own_redis`]: stops it, kills it, starts it again.
    pub fn redis_server<T>(&self, act: impl FnOnce(&mut standalone::services::Redis) -> anyhow::Result<T>) -> T {
        let server = self.own_redis.as_ref().expect("made by World::with_own_redis");
        block_in_place(|| act(&mut server.lock().unwrap()).unwrap())
    }

    /// Does something to the PostgreSQL of [`World::with_own_postgres`]: stops it, starts it again.
    pub fn postgres_server<T>(&self, act: impl FnOnce(&mut standalone::services::Postgres) -> anyhow::Result<T>) -> T {
        let server = self.own_postgres.as_ref().expect("made by World::with_own_postgres");
        block_in_place(|| act(&mut server.lock().unwrap()).unwrap())
    }

    /// Writes a workers.toml with one rule changed, and returns the setting that names it.
    pub fn workers_file(&self, from: &str, to: &str) -> String {
        let built_in = std::fs::read_to_string(crate::project_root().join("workers.toml")).unwrap();
        assert!(built_in.contains(from), "workers.toml no longer says {from:?}");
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let file = self.servers.folder().join(format!("{}-{number}-workers.toml", self.name));
        std::fs::write(&file, built_in.replacen(from, to, 1)).unwrap();
        file.display().to_string()
    }

    /// Writes a changed limits.toml, and returns the setting that names it (`ATELIER_LIMITS_FILE`).
    pub fn limits_file(&self, change: impl FnOnce(&str) -> String) -> String {
        let built_in = std::fs::read_to_string(crate::project_root().join("limits.toml")).unwrap();
        let changed = change(&built_in);
        assert_ne!(changed, built_in, "limits.toml no longer says what is changed");
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let file = self.servers.folder().join(format!("{}-{number}-limits.toml", self.name));
        std::fs::write(&file, changed).unwrap();
        file.display().to_string()
    }

    /// Writes an llm.toml whose models this peer answers, and returns the setting that names it (`ATELIER_LLM_FILE`).
    ///
    /// `peer-model` sees images and costs 0.001 US dollars a token (1,000 for a million), both ways; the documented ids
    /// (`minimax`, `gpt-4`, ...) are other names for it. `peer-claude` and `peer-llama` are the same in the dialects of
    /// Anthropic and Ollama, `peer-free` costs nothing, `peer-blind` sees no images. The provider of `peer-away` is not there, and so is that of
    /// `peer-fallback`, which falls back on `peer-model`.
    pub fn llm_file(&self, peer: &LlmPeer) -> String {
        self.llm_file_with(peer, &[])
    }

    /// As [`World::llm_file`], with changes: each replaces one text by another everywhere.
    pub fn llm_file_with(&self, peer: &LlmPeer, changes: &[(&str, &str)]) -> String {
        let mut text = include_str!("llm.toml").replace("PEER", &peer.base_url());
        for (from, to) in changes {
            assert!(text.contains(from), "llm.toml of the harness does not say {from:?}");
            text = text.replace(from, to);
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let file = self.servers.folder().join(format!("{}-{number}-llm.toml", self.name));
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// Starts an API inside this process.
    pub async fn api(&self) -> Api {
        self.api_with(&[]).await
    }

    /// Starts an API inside this process, with changed settings.
    pub async fn api_with(&self, changes: &[(&str, &str)]) -> Api {
        let config = api::Config::read(Reader::new(self.settings(changes))).unwrap();
        let server = api::Server::bind(config).await.unwrap();
        let address = server.address();
        let running = Running::start(move |shutdown| server.run(shutdown));
        Api { address, running }
    }

    /// Starts a worker inside this process, for all pools or those named.
    pub async fn worker(&self, pools: &[&str]) -> Running {
        self.worker_with(pools, &[]).await
    }

    /// Starts a worker inside this process, with changed settings.
    pub async fn worker_with(&self, pools: &[&str], changes: &[(&str, &str)]) -> Running {
        let pools: Vec<_> = pools.iter().map(|pool| (*pool).to_owned()).collect();
        let config = worker::config::Config::read(Reader::new(self.settings(changes)), &pools).unwrap();
        Running::start(move |shutdown| worker::run(config, shutdown))
    }

    /// Starts a scheduler inside this process.
    pub async fn scheduler(&self) -> Running {
        self.scheduler_with(&[]).await
    }

    /// Starts a scheduler inside this process, with changed settings.
    pub async fn scheduler_with(&self, changes: &[(&str, &str)]) -> Running {
        let config = scheduler::Config::read(Reader::new(self.settings(changes))).unwrap();
        Running::start(move |shutdown| scheduler::run(config, shutdown))
    }

    /// Starts a real process: `atelier <arguments>`, with changed settings.
    pub fn process(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.servers.folder().join(format!("{}-{}-{number}.log", self.name, arguments.join("-")));
        Process::start(arguments, &self.settings(changes), log)
    }

    /// A client of an API of this world.
    pub fn client(&self, api: &Api) -> Client {
        Client::new(api.address)
    }

    /// A new user of an API of this world, logged in.
    pub async fn member(&self, api: &Api) -> Member {
        Member::register(&self.client(api)).await
    }
}
