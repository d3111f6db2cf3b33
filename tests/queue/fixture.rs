//! A Redis server for one test, and apalis workers on it.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use apalis::prelude::*;
use guard::{Ending, Guarded, Identity, Signal};
use redis::aio::ConnectionManager;
use redis::{Client, InfoDict};
use shared::config::{Redis, Secret};
use shared::queue::{Ack, BackendOptions, LeaseBackend, Priority, Queue, Ticket, spawn_handlers};
use standalone::config::{Surroundings, tools_folder};
use standalone::services::{self, RedisBinary, Source, Toolbox};
use standalone::terminal::Terminal;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server of the test's own; it may be stopped, started again with its data, paused and emptied.
pub(crate) struct Server {
    url: String,
    process: Process,
    _data: TempDir,
}

/// Dropping either stops it.
enum Process {
    Alone(services::Redis),
    Cluster { _process: Guarded },
}

impl Server {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let redis = services::Redis::start(&binary(), data.path(), None).unwrap();
        Self { url: redis.url(), process: Process::Alone(redis), _data: data }
    }

    /// One server that owns all slots: it refuses a script whose keys lie in several of them.
    pub(crate) async fn start_cluster() -> Self {
        let data = tempfile::tempdir().unwrap();
        // The cluster's own port lies 10,000 higher and must exist.
        let port = loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if port < 55_000 {
                break port;
            }
        };
        let mut command = Command::new(binary().program);
        command
            .args(["--cluster-enabled", "yes", "--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()])
            .current_dir(data.path())
            .stdout(Stdio::null());
        let ending = Ending { stop: Signal::SIGKILL, grace: Duration::ZERO, orphaned: Signal::SIGKILL };
        let process = Process::Cluster { _process: guard::spawn(command, ending, Identity::Same).unwrap() };
        let server = Self { url: format!("redis://127.0.0.1:{port}/"), process, _data: data };
        server.own_all_slots().await;
        server
    }

    async fn own_all_slots(&self) {
        let slots: Vec<u16> = (0..16_384).collect();
        let mut looks = interval(Duration::from_millis(10));
        let ready = async {
            let mut conn = self.conn();
            while redis::cmd("PING").query_async::<()>(&mut conn).await.is_err() {
                looks.tick().await;
            }
            redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots).query_async::<()>(&mut conn).await.unwrap();
            loop {
                let info: InfoDict = redis::cmd("CLUSTER").arg("INFO").query_async(&mut conn).await.unwrap();
                if info.get::<String>("cluster_state").is_some_and(|state| state == "ok") {
                    return;
                }
                looks.tick().await;
            }
        };
        timeout(PATIENCE, ready).await.unwrap();
    }

    /// The server as a process of its own, to be stopped and started.
    fn process(&mut self) -> &mut services::Redis {
        match &mut self.process {
            Process::Alone(redis) => redis,
            Process::Cluster { .. } => unreachable!("no test stops the cluster"),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.process().stop().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process().start_again().unwrap();
    }

    /// The process stands still: connections stay open and nothing answers.
    pub(crate) fn pause(&mut self) {
        self.process().pause().unwrap();
    }

    pub(crate) fn resume(&mut self) {
        self.process().resume().unwrap();
    }

    /// As a worker would be configured, only less patient.
    fn settings(&self) -> Redis {
        Redis {
            url: Secret::new(self.url.clone()),
            prefix: "test".to_owned(),
            response_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.settings().client().unwrap()
    }

    pub(crate) fn conn(&self) -> ConnectionManager {
        self.settings().connect().unwrap()
    }

    pub(crate) fn queue(&self) -> Queue {
        Queue::new(self.conn(), "test", "jobs")
    }

    /// The names of all keys, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut self.conn()).await.unwrap();
        keys.sort();
        keys
    }

    pub(crate) async fn flush_all(&self) {
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.conn()).await.unwrap();
    }
}

/// The machine's own, or the one that is fetched for those who have none.
fn binary() -> RedisBinary {
    let folder = tools_folder(&harness::project_root().join(".atelier"));
    let toolbox = Toolbox::new(Source::Auto, &folder, Surroundings::from_env().unwrap(), Terminal::quiet());
    toolbox.redis().unwrap()
}

/// A due ticket of an ordinary tenant.
pub(crate) fn ticket(tenant: Uuid) -> Ticket {
    Ticket { id: Uuid::now_v7(), tenant, weight: 1, priority: Priority::Default, run_at: None }
}

pub(crate) fn tickets(count: usize) -> Vec<Ticket> {
    let tenant = Uuid::new_v4();
    (0..count).map(|_| ticket(tenant)).collect()
}

/// A running apalis worker.
pub(crate) struct TestWorker {
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) ended: JoinHandle<Result<(), WorkerError>>,
}

impl TestWorker {
    /// Every leased id becomes a job.
    pub(crate) fn start<H, F>(server: &Server, queue: &Queue, slots: usize, handler: H) -> Self
    where
        H: Fn(Uuid) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Ack> + Send + 'static,
    {
        let options = options(server, slots);
        Self::with(queue.backend(options.clone(), claim_all), options, handler)
    }

    pub(crate) fn with<T, H, F>(backend: LeaseBackend<T>, options: BackendOptions, handler: H) -> Self
    where
        T: Send + Sync + 'static,
        H: Fn(T) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Ack> + Send + 'static,
    {
        let worker = WorkerBuilder::new("test")
            .backend(backend)
            .concurrency(options.slots)
            .parallelize(spawn_handlers(options.tasks.clone()))
            .timeout(PATIENCE)
            .catch_panic()
            .enable_tracing()
            .build(handler);
        Self { stop: options.stop, tasks: options.tasks.clone(), ended: options.tasks.spawn(worker.run()) }
    }

    /// Stops claiming, waits for the handlers and the last acks.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

pub(crate) fn options(server: &Server, slots: usize) -> BackendOptions {
    BackendOptions::new(server.client(), slots, CancellationToken::new(), TaskTracker::new())
}

pub(crate) async fn claim_all(ids: Vec<Uuid>) -> Result<Vec<(Uuid, Uuid)>, String> {
    Ok(ids.into_iter().map(|id| (id, id)).collect())
}

/// The next `count` messages.
pub(crate) async fn receive<T>(messages: &mut mpsc::UnboundedReceiver<T>, count: usize) -> Vec<T> {
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        received.push(timeout(PATIENCE, messages.recv()).await.unwrap().unwrap());
    }
    received
}

/// Runs everything that waits, one at a time, and returns the order it ran in.
pub(crate) async fn drain(server: &Server, queue: &Queue, count: usize) -> Vec<Uuid> {
    let (started, mut order) = mpsc::unbounded_channel();
    let worker = TestWorker::start(server, queue, 1, move |id| {
        let started = started.clone();
        async move {
            started.send(id).unwrap();
            Ack::Done
        }
    });
    let order = receive(&mut order, count).await;
    worker.stop().await;
    order
}
