//! One job that a thousand listeners follow, on one API process: how long an event is on its way from its row to each
//! of them, and what that costs.
//!
//! `cargo bench --workspace --bench listeners` starts all it needs. The events are stored and published as a worker
//! does it. The clients run on the same machine, and take their share of it.
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod listeners;

use harness::{Client, Member, Process, World, eventually, project_root};
use listeners::{Heard, Listener};
use serde_json::{Value, json};
use shared::{
    events::{self, Change, Event, Progress},
    models::{Ending, Finish, Job, JobEvent, StepStatus},
};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

/// Listeners of each kind.
const LISTENERS: usize = 500;

/// Events of a job, with its end.
const EVENTS: usize = 100;

/// Between two events.
const PACE: Duration = Duration::from_millis(50);

/// Handshakes at a time.
const ABREAST: usize = 50;

#[tokio::main]
async fn main() {
    listeners::allow_many_connections();
    let world = World::new().await;
    let address = free_address();
    let bind = address.to_string();
    let api = world.process(
        &["api"],
        &[
            ("ATELIER_BIND", &bind),
            ("ATELIER_LOG", "warn"),
            ("ATELIER_API_THREADS", "2"),
            ("ATELIER_DATABASE_POOL", "8"),
        ],
    );
    let client = Client::new(address);
    eventually("the API to listen", async || {
        tokio::net::TcpStream::connect(address).await.ok()?;
        Some(())
    })
    .await;
    let member = Member::register(&client).await;
    world.unlimited().await;
    let token = member.client.token();

    let run = execution(&member).await;
    let stream = format!("/api/v1/executions/{run}/events");
    let kinds = [
        ("Socket.IO", Listener::SocketIo { address, token }),
        ("event stream", Listener::Events { address, token, path: &stream }),
    ];
    measure(&world, &api, run, &kinds).await;

    let product = member.product("Mug").await;
    let image = project_root().join("tests/images/rocket.jpg");
    let (_, job) = member.analysed_image(&product, &image, "image/jpeg").await;
    let path = format!("/ws/processing/{job}?token={token}");
    let kinds = [("WebSocket", Listener::Socket { address, path: &path })];
    measure(&world, &api, job.parse().unwrap(), &kinds).await;
}

/// Lets listeners of these kinds follow one job from its first event to its last.
async fn measure(world: &World, api: &Process, id: Uuid, kinds: &[(&str, Listener<'_>)]) {
    world.queue("pipelines").remove(&[id]).await.unwrap();
    world.queue("images").remove(&[id]).await.unwrap();
    let mut groups = Vec::new();
    for (name, kind) in kinds {
        let mut group = JoinSet::new();
        for page in 0..LISTENERS / ABREAST {
            let opened = futures_util::future::join_all((0..ABREAST).map(|_| kind.open())).await;
            for listener in opened {
                group.spawn(listener.listen());
            }
            assert_eq!(group.len(), (page + 1) * ABREAST, "nobody has been sent away");
        }
        groups.push((*name, group));
    }
    let before = cpu(api);
    play(world, id).await;
    let mut all = Vec::new();
    for (name, group) in groups {
        let heard: Vec<Heard> = group.join_all().await;
        for one in &heard {
            assert_eq!(one.numbers, (1..=EVENTS as u64).collect::<Vec<_>>(), "{name}: each event once and in order");
        }
        let times: Vec<_> = heard.into_iter().flat_map(|one| one.times).collect();
        all.extend_from_slice(&times);
        row(&format!("{EVENTS} events to {LISTENERS} listeners by {name}"), times);
    }
    let spent = cpu(api) - before;
    let told = LISTENERS * EVENTS * kinds.len();
    row("  all of them", all);
    println!(
        "  the API has spent {:.2} s of processor time: {:.1} µs for each event and listener; {} MiB of memory\n",
        spent.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / told as f64,
        api.resident_bytes() >> 20,
    );
}

/// Stores and publishes the events of a job as its worker does, the last one its end.
async fn play(world: &World, id: Uuid) {
    let mut conn = world.conn().await;
    let job = Job::claim(&mut conn, &[id], "bench", 5).await.unwrap().pop().unwrap();
    let mut redis = world.redis.clone();
    let mut tick = tokio::time::interval(PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1..EVENTS {
        tick.tick().await;
        let change = Change::StepUpdate {
            item: Some(Uuid::nil()),
            step: "in".to_owned(),
            status: StepStatus::Running,
            data: json!({ "message": "still at it", "classification_label": "mug", "confidence": 0.75 }),
        };
        let progress = Progress { completed: u32::try_from(number).unwrap(), total: 100 };
        let event = JobEvent::record(&mut conn, id, job.attempt, change, progress).await.unwrap().unwrap();
        publish(world, &mut redis, &[event]).await;
    }
    tick.tick().await;
    let finish = Finish { id, kind: job.kind, attempt: job.attempt, ending: Ending::Completed(json!({})) };
    let ended = Job::finish(&mut conn, &[finish]).await.unwrap().events;
    publish(world, &mut redis, &ended).await;
}

async fn publish(world: &World, redis: &mut redis::aio::ConnectionManager, stored: &[Event]) {
    events::announcement(&world.prefix, stored).query_async::<()>(redis).await.unwrap();
}

async fn execution(member: &Member) -> Uuid {
    let nodes = json!([{ "id": "in", "type": "input" }]);
    let made = member.client.post("/pipelines", json!({ "name": "Watched", "nodes": nodes })).await.expect(201);
    let path = format!("/pipelines/{}/run", made["id"].as_str().unwrap());
    let run = member.client.post(&path, json!({ "inputs": { "in": { "text": "hello" } } })).await.expect(202);
    id(&run["execution_id"])
}

fn id(of: &Value) -> Uuid {
    of.as_str().unwrap().parse().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Processor time of a process, all of its threads together.
fn cpu(of: &Process) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", of.id())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|field| fields[*field].parse::<u64>().unwrap()).sum();
    // Linux counts in hundredths of a second
    Duration::from_millis(ticks * 10)
}

/// One line: median and 99th percentile.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    let longest = times.last().unwrap().as_secs_f64() * 1e3;
    println!(
        "{what:<52} p50 {:>7.2} ms   p99 {:>7.2} ms   longest {longest:>7.2} ms   ({} times)",
        at(50),
        at(99),
        times.len()
    );
}
