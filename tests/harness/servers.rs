//! PostgreSQL, Redis and the object store, once for all tests of a run.

use standalone::{
    config::{Surroundings, source_tree, tools_folder},
    services::{
        Durability, LocalLlm, Node, Postgres, PostgresBinaries, Redis, RedisBinary, S3, Source, Toolbox, ports,
    },
    terminal::Terminal,
};
use std::{
    fs,
    num::NonZeroU8,
    path::{Path, PathBuf},
};
use tokio::sync::OnceCell;

/// The database that a [`crate::World`] copies: migrated, empty.
pub(crate) const TEMPLATE: &str = "template_atelier";

/// The bucket that all tests share; their keys hold ids of their own.
pub(crate) const BUCKET: &str = "atelier";

/// The servers of this run.
pub struct Servers {
    postgres: Postgres,
    redis: Redis,
    s3: S3,
    redis_binary: RedisBinary,
    postgres_binaries: PostgresBinaries,
    folder: PathBuf,
}

static SERVERS: OnceCell<Servers> = OnceCell::const_new();
static LOCAL_LLM: OnceCell<LocalLlm> = OnceCell::const_new();

/// The folder with the workspace's `Cargo.toml`.
pub fn project_root() -> PathBuf {
    source_tree().expect("tests run inside the source tree")
}

/// The program under test: the same as `atelier`.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let program = profile.join("atelier-under-test");
    assert!(program.is_file(), "{} is missing: run `cargo test --workspace`", program.display());
    program
}

/// The ONNX Runtime library, fetched if need be.
pub fn onnxruntime() -> PathBuf {
    toolbox(Source::Auto).onnxruntime().expect("ONNX Runtime can be found or fetched")
}

/// Node.js and npm, fetched if need be.
pub fn node() -> Node {
    toolbox(Source::Auto).node().expect("Node.js can be found or fetched")
}

pub(crate) fn toolbox(source: Source) -> Toolbox {
    let root = project_root();
    let surroundings = Surroundings::from_env().unwrap();
    Toolbox::new(source, &tools_folder(&root.join(".atelier")), surroundings, Terminal::quiet())
}

impl Servers {
    /// The servers of this run, started by the first who asks.
    pub async fn shared() -> &'static Self {
        SERVERS
            .get_or_init(|| async {
                // an error only says that a provider is installed already
                let _ = rustls::crypto::ring::default_provider().install_default();
                let servers = tokio::task::spawn_blocking(Self::start).await.unwrap();
                servers.make_template().await;
                servers
            })
            .await
    }

    fn start() -> Self {
        let folder = fresh_folder();
        let tools = toolbox(Source::Auto);
        let (redis_binary, postgres_binaries) = (tools.redis().unwrap(), tools.postgres().unwrap());
        Self {
            postgres: Postgres::start(&postgres_binaries, &folder, Durability::Fast, None).unwrap(),
            redis: Redis::start(&redis_binary, &folder, None).unwrap(),
            s3: S3::start(&folder.join("s3"), ports::listen(None).unwrap(), BUCKET, "test-key", "test-secret").unwrap(),
            redis_binary,
            postgres_binaries,
            folder,
        }
    }

    async fn make_template(&self) {
        self.execute(&format!("CREATE DATABASE {TEMPLATE}")).await;
        shared::db::migrate(&self.postgres.url(TEMPLATE)).await.unwrap();
    }

    /// Runs a statement outside of any test's database.
    pub(crate) async fn execute(&self, statement: &str) {
        use diesel_async::SimpleAsyncConnection;
        let mut connection = shared::db::connect(&self.postgres.url("postgres")).await.unwrap();
        connection.batch_execute(statement).await.unwrap();
    }

    /// A Redis that a test may stop, restart and empty.
    pub(crate) fn own_redis(&self, name: &str) -> Redis {
        Redis::start(&self.redis_binary, &self.folder.join(name), None).unwrap()
    }

    /// A PostgreSQL that a test may stop and restart.
    pub(crate) fn own_postgres(&self, name: &str) -> Postgres {
        Postgres::start(&self.postgres_binaries, &self.folder.join(name), Durability::Fast, None).unwrap()
    }

    /// The base URL of a real, small language model: one for the whole run, started by the first who asks.
    pub async fn local_llm(&self) -> String {
        let folder = self.folder.clone();
        let start = || async { tokio::task::spawn_blocking(move || start_local_llm(&folder)).await.unwrap() };
        LOCAL_LLM.get_or_init(start).await.url()
    }

    /// A small language model that a test may stop and restart.
    pub fn own_local_llm(&self, name: &str) -> LocalLlm {
        start_local_llm(&self.folder.join(name))
    }

    /// The URL of a database.
    pub fn database(&self, name: &str) -> String {
        self.postgres.url(name)
    }

    /// The URL of the shared Redis.
    pub fn redis(&self) -> String {
        self.redis.url()
    }

    /// The shared object store.
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// A folder of this run, for logs and data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn start_local_llm(folder: &Path) -> LocalLlm {
    let model = toolbox(Source::Auto).local_model().expect("llama.cpp's server and a model can be fetched and loaded");
    LocalLlm::start(model, NonZeroU8::MIN, folder).unwrap()
}

/// A folder named after this process; those of processes that are gone are deleted.
fn fresh_folder() -> PathBuf {
    let parent = project_root().join(".atelier/tests");
    fs::create_dir_all(&parent).unwrap();
    for entry in fs::read_dir(&parent).unwrap().flatten() {
        let name = entry.file_name();
        let gone = name.to_str().is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if gone {
            // another run that starts now may be deleting it as well
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = parent.join(std::process::id().to_string());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
