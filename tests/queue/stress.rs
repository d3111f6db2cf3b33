//! Many of everything at once: nothing lost, nothing left over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rand::RngExt;
use redis::Script;
use shared::queue::{Ack, Priority, Ticket};
use tokio::time::{interval, timeout};
use uuid::Uuid;

use super::fixture::{PATIENCE, Server, TestWorker, drain, ticket, tickets};

/// Every job in exactly one of the three sets and known in `jobs`; `again` only what is leased; nothing else anywhere.
const CONSISTENT: &str = "
local prefix = '{test:jobs}:'
local seen, jobs = {}, redis.call('HLEN', prefix .. 'jobs')
local count = 0
for _, set in ipairs({ 'ready', 'delayed', 'leases' }) do
  for _, id in ipairs(redis.call('ZRANGE', prefix .. set, 0, -1)) do
    if seen[id] then return 'in ' .. seen[id] .. ' and in ' .. set end
    seen[id] = set
    count = count + 1
    if redis.call('HEXISTS', prefix .. 'jobs', id) == 0 then return 'unknown in ' .. set end
    if set ~= 'leases' and redis.call('HEXISTS', prefix .. 'again', id) == 1 then return 'again in ' .. set end
  end
end
if jobs ~= count then return jobs .. ' known, ' .. count .. ' somewhere' end
if redis.call('HLEN', prefix .. 'again') > redis.call('ZCARD', prefix .. 'leases') then return 'again left over' end
return ''";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_pushes_acks_releases_and_removals_keep_the_queue_consistent_and_lose_nothing() {
    let server = Server::start().await;
    let queue = server.queue();
    // How often each job still wants to be released before it is done.
    let wishes: Arc<Mutex<HashMap<Uuid, u32>>> = Arc::default();
    let done: Arc<Mutex<HashMap<Uuid, u32>>> = Arc::default();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (wishes, done, again) = (wishes.clone(), done.clone(), queue.clone());
            TestWorker::start(&server, &queue, 7, move |id| {
                let (wishes, done, again) = (wishes.clone(), done.clone(), again.clone());
                async move {
                    let release = {
                        let mut wishes = wishes.lock().unwrap();
                        let left = wishes.get_mut(&id).unwrap();
                        let release = *left > 0;
                        *left = left.saturating_sub(1);
                        release
                    };
                    let after = Duration::from_millis(rand::random_range(0..20));
                    if !release {
                        *done.lock().unwrap().entry(id).or_default() += 1;
                        Ack::Done
                    } else if rand::random_bool(0.5) {
                        Ack::Release { after }
                    } else {
                        let retry = Ticket { id, run_at: Some(Utc::now() + after), ..ticket(Uuid::nil()) };
                        again.push(&[retry]).await.unwrap();
                        Ack::Done
                    }
                }
            })
        })
        .collect();

    let consistent = Script::new(CONSISTENT);
    let mut conn = server.conn();
    let tenants: Vec<(Uuid, u16)> = (1..=9).map(|n| (Uuid::new_v4(), n)).collect();
    let (mut pushed, mut removed) = (Vec::new(), 0);
    for _ in 0..150 {
        let batch: Vec<Ticket> = (0..rand::random_range(1..40)).map(|_| random_ticket(&tenants)).collect();
        wishes.lock().unwrap().extend(batch.iter().map(|ticket| (ticket.id, rand::random_range(0..3))));
        assert_eq!(queue.push(&batch).await.unwrap(), batch.len());
        pushed.extend(batch.iter().map(|ticket| ticket.id));
        let victim = pushed[rand::rng().random_range(0..pushed.len())];
        removed += queue.remove(&[victim]).await.unwrap();
        assert_eq!(consistent.invoke_async::<_, String>(&mut conn).await.unwrap(), "");
    }
    let mut looks = interval(Duration::from_millis(20));
    let drained = async {
        loop {
            assert_eq!(consistent.invoke_async::<_, String>(&mut conn).await.unwrap(), "");
            let depth = queue.depth().await.unwrap();
            if depth.ready + depth.delayed + depth.leased == 0 {
                return;
            }
            looks.tick().await;
        }
    };
    timeout(PATIENCE, drained).await.unwrap();
    for worker in workers {
        worker.stop().await;
    }
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len() + removed, pushed.len());
    assert!(done.values().all(|runs| *runs == 1));
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_jobs_in_one_burst_drain_and_leave_the_memory_as_it_was() {
    let server = Server::start().await;
    let queue = server.queue();
    let handler = |_| async { Ack::Done };
    let workers = [(); 2].map(|()| TestWorker::start(&server, &queue, 50, handler));
    queue.push(&tickets(500)).await.unwrap();
    until_drained(&queue).await;

    let before = used_memory(&server).await;
    let tenants: Vec<(Uuid, u16)> = (0..1_000).map(|n| (Uuid::new_v4(), 1 + n % 10)).collect();
    let burst: Vec<Ticket> = (0..20_000).map(|_| random_ticket(&tenants)).collect();
    assert_eq!(queue.push(&burst).await.unwrap(), 20_000);
    until_drained(&queue).await;
    let after = used_memory(&server).await;
    assert!(after < before * 105 / 100, "{before} bytes before, {after} after");
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn every_script_runs_on_a_server_of_a_cluster() {
    let server = Server::start_cluster().await;
    let queue = server.queue();
    let mut jobs = tickets(20);
    jobs[3].run_at = Some(Utc::now() + TimeDelta::hours(1));
    assert_eq!(queue.push(&jobs).await.unwrap(), 20);
    assert_eq!(queue.remove(&[jobs[3].id, jobs[4].id]).await.unwrap(), 2);
    assert_eq!(queue.missing(&[jobs[3].id, jobs[5].id]).await.unwrap(), [jobs[3].id]);
    drain(&server, &queue, 18).await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

fn random_ticket(tenants: &[(Uuid, u16)]) -> Ticket {
    let (tenant, weight) = tenants[rand::random_range(0..tenants.len())];
    let priority = [Priority::Interactive, Priority::Default, Priority::Bulk][rand::random_range(0..3)];
    let run_at = rand::random_bool(0.3).then(|| Utc::now() + TimeDelta::milliseconds(rand::random_range(-5..50)));
    Ticket { weight, priority, run_at, ..ticket(tenant) }
}

async fn until_drained(queue: &shared::queue::Queue) {
    let mut looks = interval(Duration::from_millis(20));
    let drained = async {
        loop {
            let depth = queue.depth().await.unwrap();
            if depth.ready + depth.delayed + depth.leased == 0 {
                return;
            }
            looks.tick().await;
        }
    };
    timeout(PATIENCE, drained).await.unwrap();
}

async fn used_memory(server: &Server) -> u64 {
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut server.conn()).await.unwrap();
    info.get("used_memory").unwrap()
}
