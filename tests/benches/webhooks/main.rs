//! Webhook deliveries, measured on this machine: one worker process, PostgreSQL, Redis, and a receiver that answers at once.
//!
//! `cargo bench --workspace --bench webhooks` starts all it needs. Each number stands beside that of the same bodies sent by
//! the same HTTP client in a bare loop.
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bare;
mod receiver;

use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};
use harness::{Hook, World, eventually};
use receiver::Arrivals;
use serde_json::json;
use shared::{
    models::{JobStatus, Occurrence},
    queue::Hint,
    webhook_event::WebhookEvent,
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Deliveries that are committed when the drain begins.
const DRAINED: usize = 20_000;

/// Events a second, and for how long.
const RATE: u32 = 500;
const PACED: u32 = RATE * 20;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let (url, arrivals) = receiver::start();
    let list = [("ATELIER_WEBHOOK_ALLOW_LIST", "127.0.0.1"), ("ATELIER_LOG", "warn"), ("ATELIER_DATABASE_POOL", "16")];
    let mut worker = world.process(&["worker", "--pool", "deliveries"], &list);
    let tenant = world.tenant(1).await;
    let hook = world.hook(&tenant, &url).await;
    // connections, plans and what the worker knows of the receiver are there after a first round
    let warm = world.deliver(&hook, 2_000).await;
    world.all_delivered(&warm).await;
    arrivals.take();

    drain(&world, &arrivals, "to one webhook", std::slice::from_ref(&hook)).await;
    let mut many = Vec::new();
    for _ in 0..50 {
        many.push(world.hook(&tenant, &url).await);
    }
    drain(&world, &arrivals, "to 50 webhooks", &many).await;
    let bare = bare::flood(&url, DRAINED).await;
    println!("{:<52} {bare:>8.0} /s", "the same bodies in a bare loop, 32 at a time");
    arrivals.take();
    println!();

    // the others would hear of it, too
    for hook in &many {
        world.change_hook(hook, "is_active = FALSE").await;
    }
    let committed = produce(&world, &hook).await;
    let arrived =
        eventually("the last to arrive", async || (arrivals.count() >= committed.len()).then(|| arrivals.take())).await;
    let times = committed.iter().map(|(id, at)| arrived[id].saturating_duration_since(*at)).collect();
    row(&format!("{RATE} /s: from commit to receipt"), times);
    row(&format!("{RATE} /s: in a bare loop, from send to receipt"), bare::paced(&url, &arrivals, RATE, PACED).await);
    world.drain().await;
    worker.terminate();
}

/// Commits many deliveries, then tells Redis: how fast do they arrive, and how fast are they written down?
async fn drain(world: &World, arrivals: &Arrivals, what: &str, hooks: &[Hook]) {
    let mut ids = Vec::with_capacity(DRAINED);
    for hook in hooks {
        ids.extend(world.insert_deliveries(hook, "job.completed", DRAINED / hooks.len()).await);
    }
    let start = Instant::now();
    world.hint_deliveries(&hooks[0].tenant, &ids).await;
    eventually("the last to arrive", async || (arrivals.count() >= ids.len()).then_some(())).await;
    let last = arrivals.take().into_values().max().unwrap();
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    let recorded = start.elapsed();
    let rate = |time: Duration| ids.len() as f64 / time.as_secs_f64();
    println!(
        "{:<52} {:>8.0} /s   (recorded: {:.0} /s)",
        format!("{} committed deliveries {what}", ids.len()),
        rate(last - start),
        rate(recorded)
    );
}

/// Announces events as the API does, each in a transaction of its own with the hint after it; returns when each delivery was
/// committed.
async fn produce(world: &World, hook: &Hook) -> HashMap<Uuid, Instant> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut producing, mut committed) = (JoinSet::new(), HashMap::new());
    for number in 0..PACED {
        tick.tick().await;
        let (pool, redis, prefix) = (world.pool.clone(), world.redis.clone(), world.prefix.clone());
        let occurrence = Occurrence {
            event: WebhookEvent::JobCompleted,
            user_id: hook.tenant.user,
            organization_id: hook.tenant.organization,
            data: json!({ "job_id": Uuid::now_v7(), "status": "completed", "number": number }),
        };
        producing.spawn(async move {
            let mut conn = pool.get().await.unwrap();
            // not `transaction(closure)`: the compiler cannot see that the whole is `Send`
            Transactions::begin_transaction(&mut *conn).await.unwrap();
            let hints = Occurrence::announce(&mut conn, &[occurrence]).await.unwrap();
            Transactions::commit_transaction(&mut *conn).await.unwrap();
            let at = Instant::now();
            drop(conn);
            Hint::push(&hints, &redis, &prefix).await.unwrap();
            (hints[0].ticket.id, at)
        });
        while let Some(done) = producing.try_join_next() {
            let (id, at) = done.unwrap();
            committed.insert(id, at);
        }
    }
    committed.extend(producing.join_all().await);
    committed
}

/// One line: median and 99th percentile.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<52} p50 {:>7.2} ms   p99 {:>7.2} ms   ({} times)", at(50), at(99), times.len());
}
