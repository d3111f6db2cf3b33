//! What a request costs beyond its query: credentials, limits, ids, headers, logs, errors. A GET of one job with credentials
//! is measured against a handler of the same framework in the same process that does the same query and nothing else.
//!
//! `cargo bench --workspace --bench api` starts all it needs. Limits are on, with figures that let everything through.
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod load;

use actix_web::{App, HttpResponse, HttpServer, web};
use harness::{Member, World, project_root};
use load::{Outcome, once, run};
use serde_json::Value;
use shared::{
    config::{Postgres, Reader},
    db::Pool,
    models::Job,
};
use std::{
    net::{SocketAddr, TcpListener},
    thread::available_parallelism,
    time::Duration,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long one measurement takes.
const SPAN: Duration = Duration::from_secs(4);

/// Of each; the median counts.
const ROUNDS: usize = 5;

/// Users whose requests come at the same time.
const USERS: usize = 8;

/// Connections to PostgreSQL, of either side.
const POOL: &str = "16";

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let threads = available_parallelism().unwrap().to_string();
    let limits = generous(&world);
    let settings = [
        ("ATELIER_API_THREADS", threads.as_str()),
        ("ATELIER_DATABASE_POOL", POOL),
        ("ATELIER_RATE_LIMITS", "on"),
        ("ATELIER_LIMITS_FILE", limits.as_str()),
    ];
    let api = world.api_with(&settings).await;
    let mut owned = Vec::new();
    for _ in 0..USERS {
        let member = world.member(&api).await;
        let product = member.product("Mug").await;
        let file = project_root().join("tests/images/rocket.jpg");
        let (_, job) = member.analysed_image(&product, &file, "image/jpeg").await;
        owned.push((member, job));
    }
    let by_token: Vec<String> = owned
        .iter()
        .map(|(member, job)| request(job, &format!("Authorization: Bearer {}", member.client.token())))
        .collect();
    let mut by_key = Vec::new();
    for (member, job) in &owned {
        by_key.push(request(job, &format!("X-API-Key: {}", key(member).await)));
    }
    let anonymous: Vec<String> =
        owned.iter().map(|(member, job)| request(job, &format!("X-User: {}", member.id()))).collect();

    let jobs: Vec<Value> = {
        let mut jobs = Vec::new();
        for request in &by_token {
            jobs.push(serde_json::from_str(&once(api.address, request).await).unwrap());
        }
        jobs
    };
    let servers = TaskTracker::new();
    let bare = bare(&world, &servers, jobs);
    for (request, plain) in by_token.iter().zip(&anonymous) {
        let (ours, theirs) = (once(api.address, request).await, once(bare, plain).await);
        assert_eq!(ours, theirs, "both give the same answer");
    }

    println!("GET of one job, {threads} threads, requests a second; p50 and p99 in ms; ratio to the bare handler");
    for connections in [1, 16, 64] {
        let (mut plain, mut tokens, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        // turn and turn about, so that whatever else the machine does weighs on all
        for _ in 0..ROUNDS {
            plain.push(run(bare, &anonymous, connections, SPAN).await);
            tokens.push(run(api.address, &by_token, connections, SPAN).await);
            keys.push(run(api.address, &by_key, connections, SPAN).await);
        }
        let reference = row(connections, "bare handler", plain, None);
        row(connections, "with an access token", tokens, Some(reference));
        row(connections, "with an API key", keys, Some(reference));
    }
    // no worker takes them
    for (member, job) in &owned {
        member.client.post(&format!("/jobs/{job}/cancel"), Value::Null).await.expect(200);
    }
    api.running.stop().await;
}

fn request(job: &str, credentials: &str) -> String {
    format!("GET /api/v1/jobs/{job} HTTP/1.1\r\nHost: bench\r\n{credentials}\r\n\r\n")
}

async fn key(member: &Member) -> String {
    let body = serde_json::json!({ "name": "Bench", "permissions": ["analysis:read"] });
    let made = member.client.post("/api-keys", body).await.expect(201);
    made["key"].as_str().unwrap().to_owned()
}

/// limits.toml with the largest figures there can be.
fn generous(world: &World) -> String {
    let text = std::fs::read_to_string(project_root().join("limits.toml")).unwrap();
    let raised = text.lines().map(|line| match line.split_once(" = ") {
        Some((name @ ("limit" | "burst"), _)) => format!("{name} = 1000000\n"),
        _ => format!("{line}\n"),
    });
    let file = world.servers.folder().join(format!("{}-limits.toml", world.prefix));
    std::fs::write(&file, raised.collect::<String>()).unwrap();
    file.display().to_string()
}

/// What the bare handler needs.
struct Plain {
    pool: Pool,
    jobs: Vec<Value>,
}

/// A server with one handler, which does the query and writes the JSON.
fn bare(world: &World, servers: &TaskTracker, jobs: Vec<Value>) -> SocketAddr {
    let mut from = Reader::new(world.settings(&[("ATELIER_DATABASE_POOL", POOL)]));
    let pool = shared::db::pool(&Postgres::read(&mut from, 16)).unwrap();
    let plain = web::Data::new(Plain { pool, jobs });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        HttpServer::new(move || App::new().app_data(plain.clone()).route("/api/v1/jobs/{id}", web::get().to(get_job)))
            .workers(available_parallelism().unwrap().get())
            .tcp_nodelay(true)
            .disable_signals()
            .listen(listener)
            .unwrap()
            .run();
    servers.spawn(server);
    address
}

async fn get_job(plain: web::Data<Plain>, id: web::Path<Uuid>, request: actix_web::HttpRequest) -> HttpResponse {
    let user = request.headers().get("x-user").unwrap().to_str().unwrap().parse().unwrap();
    let mut conn = plain.pool.get().await.unwrap();
    let (job, steps) = Job::find_with_steps(&mut conn, *id, user).await.unwrap().unwrap();
    drop(conn);
    let id = job.id.to_string();
    assert!(steps.is_empty() || steps[0].job_id == job.id);
    let shown = plain.jobs.iter().find(|shown| shown["id"] == id).unwrap();
    HttpResponse::Ok().json(shown)
}

/// Prints a line; the rate.
fn row(connections: usize, what: &str, mut outcomes: Vec<Outcome>, reference: Option<f64>) -> f64 {
    outcomes.sort_unstable_by(|one, other| one.rate.total_cmp(&other.rate));
    let median = &outcomes[outcomes.len() / 2];
    let ratio = reference.map(|reference| format!("   {:.2}", median.rate / reference)).unwrap_or_default();
    println!(
        "{connections:>3} connections   {what:<22} {:>7.0}/s   p50 {:>6.2}   p99 {:>6.2}{ratio}",
        median.rate,
        median.at(50),
        median.at(99),
    );
    median.rate
}
