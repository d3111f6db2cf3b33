//! A Redis server for one test, and apalis workers on it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use apalis::prelude::*;
use redis::Client;
use redis::aio::ConnectionManager;
use shared::config::{Redis, Secret};
use shared::queue::{Ack, BackendOptions, LeaseBackend, Priority, Queue, Ticket, spawn_handlers};
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
    port: u16,
    cluster: &'static str,
    data: TempDir,
    process: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with("no").await
    }

    /// One server that owns all slots: it refuses a script whose keys lie in several of them.
    pub(crate) async fn start_cluster() -> Self {
        let server = Self::with("yes").await;
        let slots: Vec<u16> = (0..16_384).collect();
        let mut conn = server.conn();
        redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots).query_async::<()>(&mut conn).await.unwrap();
        let mut looks = interval(Duration::from_millis(10));
        let ready = async {
            loop {
                let info: redis::InfoDict =
                    redis::cmd("CLUSTER").arg("INFO").query_async(&mut server.conn()).await.unwrap();
                if info.get::<String>("cluster_state").is_some_and(|state| state == "ok") {
                    return;
                }
                looks.tick().await;
            }
        };
        timeout(PATIENCE, ready).await.unwrap();
        server
    }

    async fn with(cluster: &'static str) -> Self {
        // The cluster's own port lies 10,000 higher and must exist.
        let port = loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if port < 55_000 {
                break port;
            }
        };
        let mut server = Self { port, cluster, data: tempfile::tempdir().unwrap(), process: None };
        server.start_again().await;
        server
    }

    pub(crate) async fn start_again(&mut self) {
        let process = Command::new("redis-server")
            .args(["--cluster-enabled", self.cluster])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.data.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let mut ticks = interval(Duration::from_millis(5));
        let answers = async {
            loop {
                ticks.tick().await;
                if let Ok(mut conn) = self.client().get_multiplexed_async_connection().await
                    && redis::cmd("PING").query_async::<String>(&mut conn).await.is_ok()
                {
                    return;
                }
            }
        };
        timeout(PATIENCE, answers).await.unwrap();
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, "TERM");
            process.wait().unwrap();
        }
    }

    /// The process stands still: connections stay open and nothing answers.
    pub(crate) fn pause(&self) {
        self.process.iter().for_each(|process| signal(process, "STOP"));
    }

    pub(crate) fn unpause(&self) {
        self.process.iter().for_each(|process| signal(process, "CONT"));
    }

    /// As a worker would be configured, only less patient.
    fn settings(&self) -> Redis {
        let url = format!("redis://127.0.0.1:{}/", self.port);
        Redis { url: Secret::new(url), prefix: "test".to_owned(), response_timeout: Duration::from_secs(1) }
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

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

fn signal(process: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string()).status().unwrap();
    assert!(status.success());
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
