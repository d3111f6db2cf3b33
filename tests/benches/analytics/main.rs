//! Figures of a year, measured over HTTP: of an organization with ten million requests, beside two hundred others, and of
//! fifty projects with orchestrations on every day. The sums are kept as things happen; the same sums made of raw rows when
//! they are asked for are measured beside them.
//!
//! `cargo bench --workspace --bench analytics` starts all it needs.
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

use chrono::{TimeDelta, Timelike, Utc};
use diesel_async::RunQueryDsl;
use harness::{Member, World};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2Serializer},
};
use reqwest::Method;
use shared::models::{RequestMinute, SECONDS};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Of each.
const ROUNDS: usize = 200;

/// Of what takes seconds.
const SLOW_ROUNDS: usize = 5;

const HOURS: i64 = 8_760;
const REQUESTS: i64 = 10_000_000;
const RAW_ROWS: i64 = 1_000_000;
const REPLICAS: usize = 10;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_LOG", "warn")]).await;
    let member = world.member(&api).await;
    seed(&world, &member).await;
    seed_raw(&world, &member).await;
    world.run_sql("VACUUM ANALYZE usage_hours").await;
    world.run_sql("VACUUM ANALYZE usage_records").await;
    world.run_sql("VACUUM ANALYZE orchestration_days").await;
    seed_minutes(&world, &member).await;

    println!(
        "{REQUESTS} requests in {HOURS} hours, 50 projects with orchestrations on 365 days, 200 organizations beside"
    );
    for granularity in ["hour", "day", "week", "month"] {
        let path = format!("/analytics/usage?days=365&granularity={granularity}");
        let (times, bytes) = over_http(&member, &path, ROUNDS).await;
        row(&format!("a year by {granularity} ({} KB)", bytes / 1024), times);
    }
    let (times, _) = over_http(&member, "/analytics/usage", ROUNDS).await;
    row("30 days by day", times);
    let (times, _) = over_http(&member, "/analytics/performance", ROUNDS).await;
    row(&format!("performance, {REPLICAS} replicas in 60 minutes"), times);

    let raw = raw(&world, &member).await;
    let median = raw[raw.len() / 2].as_secs_f64();
    row(&format!("the sums of a year by day out of {RAW_ROWS} raw rows, the query alone"), raw);
    let each = median / RAW_ROWS as f64;
    println!(
        "a raw row costs {:.0} ns; at the same cost {REQUESTS} of them would take {:.1} s",
        each * 1e9,
        each * REQUESTS as f64
    );
    api.running.stop().await;
}

/// Sums as they would be after such a year. The last hour is this one.
async fn seed(world: &World, member: &Member) {
    let organization = member.organization_id();
    let each = REQUESTS / HOURS;
    world
        .run_sql(&format!(
            "INSERT INTO usage_hours (organization_id, hour, requests, response_ms, tokens) \
             SELECT '{organization}', date_trunc('hour', now(), 'UTC') - n * interval '1 hour', \
                 {each} + (n < {rest})::int, {each} * 12.5, {each} * 40 \
             FROM generate_series(0, {HOURS} - 1) AS n",
            rest = REQUESTS % HOURS,
        ))
        .await;
    world
        .run_sql(&format!(
            "INSERT INTO organizations (id, name, slug, settings) \
                 SELECT gen_random_uuid(), 'Other', 'other-' || n, '{{}}' FROM generate_series(1, 200) AS n; \
             INSERT INTO usage_hours (organization_id, hour, requests, response_ms, tokens) \
                 SELECT id, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 100, 1000, 1000 \
                 FROM generate_series(0, {HOURS} - 1) AS n, organizations WHERE slug LIKE 'other-%'; \
             INSERT INTO projects (id, organization_id, created_by, name) \
                 SELECT gen_random_uuid(), '{organization}', '{user}', 'Project ' || n \
                 FROM generate_series(1, 50) AS n; \
             INSERT INTO orchestration_days (organization_id, project_id, day, started, completed, failed, execution_ms, \
                     file_system, git_operations, deployment) \
                 SELECT '{organization}', id, (now() AT TIME ZONE 'UTC')::date - n, 10, 8, 1, 90000, 20, 9, 1 \
                 FROM generate_series(0, 364) AS n, projects",
            user = member.id(),
        ))
        .await;
}

/// Records of single calls, spread over the year.
async fn seed_raw(world: &World, member: &Member) {
    world
        .run_sql(&format!(
            "INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, total_tokens, status, \
                 response_time_ms, created_at) \
             SELECT gen_random_uuid(), '{}', '{}', gen_random_uuid(), '/ai/chat', 'gpt-4', 40, 'completed', 12, \
                 now() - n * interval '365 days' / {RAW_ROWS} \
             FROM generate_series(0, {RAW_ROWS} - 1) AS n",
            member.organization_id(),
            member.id(),
        ))
        .await;
}

/// Minutes of a busy hour, with times between one and three thousand milliseconds.
async fn seed_minutes(world: &World, member: &Member) {
    let now = Utc::now().with_second(0).unwrap().with_nanosecond(0).unwrap();
    for _ in 0..REPLICAS {
        let minutes: Vec<_> = (0..60)
            .map(|back| {
                let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 2).unwrap();
                for n in 1..=1_000_u64 {
                    histogram.record(1_000 + n * n * 3 + back as u64).unwrap();
                }
                let mut bytes = Vec::new();
                V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
                RequestMinute {
                    organization_id: member.organization_id(),
                    minute: now - TimeDelta::minutes(back),
                    requests: 1_000,
                    response_ms: 1e6,
                    errors_4xx: 20,
                    errors_5xx: 1,
                    seconds: vec![16; SECONDS],
                    histogram: bytes,
                }
            })
            .collect();
        RequestMinute::write(&mut *world.conn().await, Uuid::new_v4(), &minutes).await.unwrap();
    }
}

/// How long answers take, from the request to their last byte; and how long they are.
async fn over_http(member: &Member, path: &str, rounds: usize) -> (Vec<Duration>, usize) {
    let mut bytes = 0;
    // plans and connections are there after a few
    for _ in 0..10 {
        let answer = member.client.get(path).await;
        bytes = answer.text.len();
        answer.expect(200);
    }
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let request = member.client.request(Method::GET, &format!("/api/v1{path}"));
        let began = Instant::now();
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.bytes().await.unwrap();
        times.push(began.elapsed());
        assert!(body.len() >= bytes / 2);
    }
    (times, bytes)
}

/// What the sums of a year cost that nobody has kept.
async fn raw(world: &World, member: &Member) -> Vec<Duration> {
    let query = format!(
        "SELECT date_trunc('day', created_at, 'UTC') AS starts, count(*), sum(total_tokens), avg(response_time_ms) \
         FROM usage_records WHERE organization_id = '{}' AND created_at >= now() - interval '365 days' \
         GROUP BY 1 ORDER BY 1",
        member.organization_id()
    );
    let mut conn = world.conn().await;
    let mut times = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        let began = Instant::now();
        diesel::sql_query(&query).execute(&mut conn).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times
}

/// One line: median and 99th percentile.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<72} p50 {:>8.2} ms   p99 {:>8.2} ms   ({} times)", at(50), at(99), times.len());
}
