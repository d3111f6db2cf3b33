//! How fast the queue is, measured against the same server's bare `EVALSHA` in the same run.
//!
//! `cargo bench --workspace --bench queue` starts a `redis-server` or `valkey-server` found on the PATH, without
//! persistence; `BENCH_REDIS_URL` names a running one instead (its database is not emptied, keys start with `bench:`).
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use futures_util::future::join_all;
use redis::Script;
use redis::aio::ConnectionManager;
use shared::config::{Redis, Secret};
use shared::queue::{Ack, BackendOptions, Priority, Queue, Ticket, spawn_handlers};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const CONNECTIONS: usize = 64;
const BACKLOG: usize = 60_000;
/// Of each drain; the median counts.
const ROUNDS: usize = 3;
const PICK_UPS: usize = 500;

#[tokio::main]
async fn main() {
    let server = Server::start().await;
    // Warm up: connections, script cache, allocator.
    push(&server, 8, 100, 8_000).await;
    drain(&server, 256, true, 8_000).await;

    let concurrent = evalsha(&server, CONNECTIONS, 200_000).await;
    let single = evalsha(&server, 1, 20_000).await;
    row("EVALSHA of one command, 1 connection", single, single);
    row("EVALSHA of one command, 64 connections", concurrent, concurrent);
    println!();
    row("push, 1 pusher, one ticket a call", push(&server, 1, 1, 20_000).await, single);
    row("push, 64 pushers, one ticket a call", push(&server, 64, 1, 100_000).await, concurrent);
    row("push, 1 pusher, 200 tickets a call", push(&server, 1, 200, 100_000).await, concurrent);
    row("push, 8 pushers, 100 tickets a call", push(&server, 8, 100, 100_000).await, concurrent);
    println!();
    for slots in [16, 64, 256, 1_024] {
        for parallel in [false, true] {
            let how = if parallel { "handlers as tasks" } else { "one task" };
            let (mut rates, mut references) = (Vec::new(), Vec::new());
            // Turn and turn about, so that whatever else the machine does weighs on both.
            for _ in 0..ROUNDS {
                references.push(evalsha(&server, CONNECTIONS, BACKLOG).await);
                push(&server, 8, 200, BACKLOG).await;
                rates.push(drain(&server, slots, parallel, BACKLOG).await);
            }
            row(&format!("claim + ack, {slots} slots, {how}"), median(rates), median(references));
        }
    }
    println!();
    pick_up(&server).await;
}

fn row(what: &str, rate: f64, reference: f64) {
    println!("{what:<48} {rate:>10.0}/s   {:>5.2} of EVALSHA", rate / reference);
}

/// Unpipelined: every connection waits for its answer before it asks again.
async fn evalsha(server: &Server, connections: usize, calls: usize) -> f64 {
    let script = Arc::new(Script::new("return redis.call('GET', KEYS[1])"));
    let mut conns = Vec::new();
    for _ in 0..connections {
        conns.push(server.settings().client().unwrap().get_multiplexed_async_connection().await.unwrap());
    }
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for mut conn in conns {
        let script = script.clone();
        callers.spawn(async move {
            for _ in 0..calls / connections {
                script.key("bench:nothing").invoke_async::<Option<String>>(&mut conn).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    per_second(calls, started)
}

async fn push(server: &Server, pushers: usize, batch: usize, total: usize) -> f64 {
    let queue = server.queue("push");
    let each = total / pushers;
    let tickets: Vec<Vec<Ticket>> = (0..pushers).map(|_| tickets(each)).collect();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for tickets in tickets {
        let queue = queue.clone();
        tasks.spawn(async move {
            for batch in tickets.chunks(batch) {
                assert_eq!(queue.push(batch).await.unwrap(), batch.len());
            }
        });
    }
    tasks.join_all().await;
    let rate = per_second(each * pushers, started);
    if total != BACKLOG && total != 8_000 {
        server.forget("push").await;
    }
    rate
}

/// Runs `count` waiting no-ops through an apalis worker with all its layers; the clock stops when Redis knows of every
/// ack.
async fn drain(server: &Server, slots: usize, parallel: bool, count: usize) -> f64 {
    let queue = server.queue("push");
    let options = server.options(slots);
    let finished = Arc::new((AtomicUsize::new(0), Notify::new()));
    let backend = queue.backend(options.clone(), |ids: Vec<Uuid>| async move {
        Ok::<_, String>(ids.into_iter().map(|id| (id, id)).collect())
    });
    let handler = {
        let finished = finished.clone();
        move |_: Uuid| {
            if finished.0.fetch_add(1, Ordering::Relaxed) + 1 == count {
                finished.1.notify_one();
            }
            async { Ack::Done }
        }
    };
    let started = Instant::now();
    let builder = WorkerBuilder::new("bench").backend(backend).concurrency(slots);
    let worker = if parallel {
        options.tasks.spawn(
            builder
                .parallelize(spawn_handlers(options.tasks.clone()))
                .timeout(Duration::from_secs(60))
                .catch_panic()
                .enable_tracing()
                .build(handler)
                .run(),
        )
    } else {
        let builder = builder.timeout(Duration::from_secs(60)).catch_panic().enable_tracing();
        options.tasks.spawn(builder.build(handler).run())
    };
    finished.1.notified().await;
    options.stop.cancel();
    worker.await.unwrap().unwrap();
    let rate = per_second(count, started);
    options.tasks.close();
    options.tasks.wait().await;
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth.ready + depth.delayed + depth.leased, 0);
    rate
}

/// From the call of `push` to the handler's first line, one job at a time on an idle worker.
async fn pick_up(server: &Server) {
    let queue = server.queue("idle");
    let options = server.options(4);
    let (start, mut starts) = mpsc::unbounded_channel();
    let backend = queue.backend(options.clone(), |ids: Vec<Uuid>| async move {
        Ok::<_, String>(ids.into_iter().map(|id| (id, id)).collect())
    });
    let worker = WorkerBuilder::new("idle")
        .backend(backend)
        .concurrency(4)
        .parallelize(spawn_handlers(options.tasks.clone()))
        .timeout(Duration::from_secs(60))
        .catch_panic()
        .enable_tracing()
        .build(move |_: Uuid| {
            start.send(Instant::now()).unwrap();
            async { Ack::Done }
        });
    let worker = options.tasks.spawn(worker.run());
    let mut waits = Vec::with_capacity(PICK_UPS);
    for ticket in tickets(PICK_UPS) {
        // The pause makes the worker idle again; it is what is measured, not a synchronisation.
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..25))).await;
        let pushed = Instant::now();
        queue.push(&[ticket]).await.unwrap();
        waits.push(starts.recv().await.unwrap() - pushed);
    }
    waits.sort();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!("idle pick-up: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.9), at(0.99), at(1.0));
    options.stop.cancel();
    worker.await.unwrap().unwrap();
    options.tasks.close();
    options.tasks.wait().await;
}

/// Of ten tenants with different weights.
fn tickets(count: usize) -> Vec<Ticket> {
    let tenants: Vec<Uuid> = (0..10).map(|_| Uuid::new_v4()).collect();
    (0..count)
        .map(|n| Ticket {
            id: Uuid::now_v7(),
            tenant: tenants[n % tenants.len()],
            weight: 1 + (n % tenants.len()) as u16,
            priority: Priority::Default,
            run_at: None,
        })
        .collect()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

struct Server {
    url: String,
    process: Option<Child>,
}

impl Server {
    async fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a bench has no configuration of its own")]
        if let Ok(url) = std::env::var("BENCH_REDIS_URL") {
            return Self { url, process: None };
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()];
        let process = ["redis-server", "valkey-server"]
            .iter()
            .find_map(|name| Command::new(name).args(arguments).stdout(Stdio::null()).spawn().ok());
        assert!(process.is_some(), "no redis-server or valkey-server on the PATH: install one or set BENCH_REDIS_URL");
        let server = Self { url: format!("redis://127.0.0.1:{port}/"), process };
        while server.queue("push").depth().await.is_err() {
            tokio::task::yield_now().await;
        }
        server
    }

    fn settings(&self) -> Redis {
        let response_timeout = Duration::from_secs(5);
        Redis { url: Secret::new(self.url.clone()), prefix: "bench".to_owned(), response_timeout }
    }

    fn conn(&self) -> ConnectionManager {
        self.settings().connect().unwrap()
    }

    fn queue(&self, name: &str) -> Queue {
        Queue::new(self.conn(), "bench", name)
    }

    fn options(&self, slots: usize) -> BackendOptions {
        BackendOptions::new(self.settings().client().unwrap(), slots, CancellationToken::new(), TaskTracker::new())
    }

    async fn forget(&self, name: &str) {
        let mut conn = self.conn();
        let keys = ["ready", "delayed", "leases", "jobs", "again", "tags", "clock"];
        join_all(keys.map(|key| {
            let mut conn = conn.clone();
            async move { redis::cmd("DEL").arg(format!("{{bench:{name}}}:{key}")).query_async::<()>(&mut conn).await }
        }))
        .await;
        redis::cmd("PING").query_async::<()>(&mut conn).await.unwrap();
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
