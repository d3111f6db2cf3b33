//! Figures of organizations: what is counted as it happens, and what is told of it.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{DateTime, Datelike, Days, Timelike, Utc};
use diesel::sql_types::{BigInt, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use harness::{LlmPeer, Member, World, eventually};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2Serializer},
};
use serde_json::{Value, json};
use shared::models::{OrchestrationCounts, RequestMinute, SECONDS};
use uuid::Uuid;

#[derive(diesel::QueryableByName, Debug, PartialEq)]
struct Sums {
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = Double)]
    response_ms: f64,
}

/// The hours of an organization together.
async fn sums(world: &World, organization: Uuid) -> Sums {
    diesel::sql_query(
        "SELECT COALESCE(sum(requests), 0)::bigint AS requests, COALESCE(sum(tokens), 0)::bigint AS tokens, \
             COALESCE(sum(response_ms), 0)::double precision AS response_ms \
         FROM usage_hours WHERE organization_id = $1",
    )
    .bind::<SqlUuid, _>(organization)
    .get_result(&mut *world.conn().await)
    .await
    .unwrap()
}

/// Adds to an hour.
async fn used(world: &World, organization: Uuid, hour: DateTime<Utc>, requests: i64, tokens: i64, response_ms: f64) {
    diesel::sql_query(
        "INSERT INTO usage_hours (organization_id, hour, requests, tokens, response_ms) \
         VALUES ($1, date_trunc('hour', $2, 'UTC'), $3, $4, $5)",
    )
    .bind::<SqlUuid, _>(organization)
    .bind::<Timestamptz, _>(hour)
    .bind::<BigInt, _>(requests)
    .bind::<BigInt, _>(tokens)
    .bind::<Double, _>(response_ms)
    .execute(&mut *world.conn().await)
    .await
    .unwrap();
}

/// A minute as a replica writes it: so many requests that took so many milliseconds each.
fn minute(organization_id: Uuid, at: DateTime<Utc>, requests: u64, ms: u64, errors: (i64, i64)) -> RequestMinute {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 2).unwrap();
    histogram.record_n(ms * 1_000, requests).unwrap();
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
    let mut seconds = vec![0; SECONDS];
    seconds[5] = i32::try_from(requests).unwrap();
    RequestMinute {
        organization_id,
        minute: at.with_second(0).unwrap().with_nanosecond(0).unwrap(),
        requests: i64::try_from(requests).unwrap(),
        response_ms: (requests * ms) as f64,
        errors_4xx: errors.0,
        errors_5xx: errors.1,
        seconds,
        histogram: bytes,
    }
}

async fn write(world: &World, replica: Uuid, minutes: &[RequestMinute]) {
    RequestMinute::write(&mut *world.conn().await, replica, minutes).await.unwrap();
}

fn near(found: &Value, expected: f64) -> bool {
    (found.as_f64().unwrap() - expected).abs() <= expected * 0.01
}

fn spans(usage: &Value) -> &Vec<Value> {
    usage["api_usage"].as_array().unwrap()
}

fn total(usage: &Value, key: &str) -> i64 {
    spans(usage).iter().map(|span| span[key].as_i64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_counts_once_whichever_replica_answers_it() {
    let world = World::new().await;
    let (one, other) = (world.api().await, world.api().await);
    let member = world.member(&one).await;
    let organization = member.organization_id();
    let there = world.client(&other).with_token(member.client.token());
    for _ in 0..30 {
        member.client.get("/users/me").await.expect(200);
    }
    for _ in 0..20 {
        there.get(&format!("/products/{}", Uuid::now_v7())).await.error(404);
    }
    // nobody is known, or the route is for anyone: these count for no organization
    there.anonymous().get("/users/me").await.error(401);
    there.post("/auth/login", json!({})).await.error(400);
    there.get("/nothing").await.error(404);
    one.running.stop().await;
    other.running.stop().await;
    let counted = sums(&world, organization).await;
    assert_eq!((counted.requests, counted.tokens), (50, 0));
    assert!(counted.response_ms > 0.0);
    let of = |what: &str| format!("request_minutes WHERE organization_id = '{organization}' {what}");
    let replicas = "AND replica IN (SELECT replica FROM request_minutes)";
    assert!(world.count_rows(&of(replicas)).await >= 2, "each replica has a row of its own");

    let third = world.api().await;
    let client = world.client(&third).with_token(member.client.token());
    let told = client.get("/analytics/performance").await.expect(200);
    assert_eq!(told["error_rates"], json!({ "4xx": 40.0, "5xx": 0.0 }));
    let times = ["p50", "p95", "p99"].map(|name| told["response_times"][name].as_f64().unwrap());
    assert!(times[0] > 0.0 && times.is_sorted(), "{told}");
    assert_eq!(told["throughput"]["requests_per_second"], json!(0.014), "50 in an hour");
    assert!((1.0..=50.0).contains(&told["throughput"]["peak_rps"].as_f64().unwrap()), "{told}");
    let usage = client.get("/analytics/usage?days=2").await.expect(200);
    assert!(total(&usage, "requests") >= 50, "{usage}");
    eventually("the machine to be looked at", async || {
        let told = client.get("/analytics/performance").await.expect(200)["resource_usage"].clone();
        let shares = ["cpu_utilization", "memory_usage", "disk_usage"].map(|name| told[name].as_f64().unwrap());
        assert!(shares.iter().all(|share| (0.0..=100.0).contains(share)), "{told}");
        (shares[1] > 0.0 && shares[2] > 0.0).then_some(())
    })
    .await;
    eventually("the third to write, too", async || (sums(&world, organization).await.requests > 52).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_and_peaks_are_those_of_all_replicas_together() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let (organization, now) = (member.organization_id(), Utc::now() - chrono::TimeDelta::minutes(2));
    let replicas = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    write(&world, replicas[0], &[minute(organization, now, 900, 10, (90, 0))]).await;
    write(&world, replicas[1], &[minute(organization, now, 60, 500, (0, 5))]).await;
    let earlier = now - chrono::TimeDelta::minutes(20);
    write(&world, replicas[1], &[minute(organization, earlier, 40, 2_000, (10, 5))]).await;
    // out of the hour, and another organization's
    let long_ago = now - chrono::TimeDelta::minutes(70);
    write(&world, replicas[2], &[minute(organization, long_ago, 5_000, 9_000, (5_000, 0))]).await;
    write(&world, replicas[2], &[minute(other.organization_id(), now, 7, 20, (0, 0))]).await;

    let told = member.client.get("/analytics/performance").await.expect(200);
    let times = &told["response_times"];
    assert!(near(&times["p50"], 10.0) && near(&times["p95"], 500.0) && near(&times["p99"], 2_000.0), "{times}");
    assert_eq!(told["error_rates"], json!({ "4xx": 10.0, "5xx": 1.0 }));
    assert_eq!(told["throughput"], json!({ "requests_per_second": 0.278, "peak_rps": 960.0 }));
    let theirs = other.client.get("/analytics/performance").await.expect(200);
    assert!(near(&theirs["response_times"]["p99"], 20.0), "{theirs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_that_is_written_again_adds_only_what_is_new() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (organization, now, replica) = (tenant.organization, Utc::now(), Uuid::new_v4());
    let gone = Uuid::now_v7();
    for (requests, expected) in [(3, 3), (3, 3), (10, 10), (10, 10)] {
        let whole = minute(organization, now, requests, 5, (0, 0));
        write(&world, replica, &[minute(gone, now, 1, 1, (0, 0)), whole]).await;
        let counted = sums(&world, organization).await;
        assert_eq!((counted.requests, counted.response_ms), (expected, (expected * 5) as f64));
    }
    write(&world, Uuid::new_v4(), &[minute(organization, now, 2, 5, (0, 0))]).await;
    assert_eq!(sums(&world, organization).await.requests, 12, "another replica has a minute of its own");
    assert_eq!((world.count_rows("request_minutes").await, sums(&world, gone).await.requests), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_while_the_database_is_away() {
    let world = World::with_own_postgres().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let get = async || member.client.get("/users/me").await;
    for _ in 0..10 {
        get().await.expect(200);
    }
    world.postgres_server(|postgres| postgres.stop());
    let refused = member.client.get("/users/me").await.status.as_u16();
    assert_eq!(refused, 503, "nobody is known while it is away, so this does not count");
    world.postgres_server(|postgres| postgres.start_again());
    while world.pool.get().await.is_err() {}
    let answered = eventually("the API to answer again", async || (get().await.status == 200).then_some(11)).await;
    api.running.stop().await;
    assert_eq!(sums(&world, member.organization_id()).await.requests, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_for_every_span_of_the_days_asked_for() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let (organization, now) = (member.organization_id(), Utc::now());
    let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let before = |days: u64, hour: u32| midnight.checked_sub_days(Days::new(days)).unwrap().with_hour(hour).unwrap();
    used(&world, organization, before(3, 23), 1, 10, 100.0).await;
    used(&world, organization, before(2, 0), 3, 20, 30.0).await;
    used(&world, organization, before(2, 5), 1, 0, 50.0).await;
    used(&world, organization, before(40, 5), 7, 70, 7.0).await;
    used(&world, organization, before(364, 5), 5, 50, 5.0).await;
    used(&world, organization, before(365, 23), 1_000, 1_000, 1.0).await;
    let usage = async |query: &str| member.client.get(&format!("/analytics/usage?{query}")).await.expect(200);
    let date = |days| before(days, 0).date_naive().to_string();

    let days = usage("days=4").await;
    let dates: Vec<_> = spans(&days).iter().map(|span| span["date"].as_str().unwrap().to_owned()).collect();
    assert_eq!(dates, [date(3), date(2), date(1), date(0)]);
    assert_eq!(spans(&days)[0], json!({ "date": date(3), "requests": 1, "tokens": 10, "avg_response_time": 100.0 }));
    assert_eq!(
        spans(&days)[1],
        json!({ "date": date(2), "requests": 4, "tokens": 20, "avg_response_time": 20.0 }),
        "weighted"
    );
    assert_eq!(spans(&days)[2], json!({ "date": date(1), "requests": 0, "tokens": 0, "avg_response_time": 0.0 }));
    assert_eq!(spans(&usage("").await).len(), 30);
    assert_eq!(total(&usage("").await, "tokens"), 30);

    let hours = usage("days=3&granularity=hour").await;
    assert_eq!(spans(&hours).len(), 48 + now.hour() as usize + 1);
    assert_eq!(spans(&hours)[0]["date"], format!("{}T00:00:00.000000Z", date(2)));
    assert_eq!((&spans(&hours)[5]["requests"], &spans(&hours)[6]["requests"]), (&json!(1), &json!(0)));

    for granularity in ["hour", "day", "week", "month"] {
        let year = usage(&format!("days=365&granularity={granularity}")).await;
        assert_eq!(total(&year, "tokens"), 150, "{granularity}");
        let dates: Vec<_> = spans(&year).iter().map(|span| span["date"].as_str().unwrap()).collect();
        assert!(dates.is_sorted(), "oldest first");
        match granularity {
            "week" => assert!(dates.iter().all(|date| weekday(date) == chrono::Weekday::Mon) && dates.len() >= 53),
            "month" => assert!(dates.iter().all(|date| date.ends_with("-01")) && dates.len() >= 12),
            _ => {}
        }
    }
    assert_eq!(total(&other.client.get("/analytics/usage?days=365").await.expect(200), "tokens"), 0);
    let colleague = world.colleague(&api, &member, "viewer").await;
    let seen = colleague.client.get("/analytics/usage?days=365").await.expect(200);
    assert_eq!(total(&seen, "tokens"), 150, "it is the organization's");
}

fn weekday(date: &str) -> chrono::Weekday {
    date.parse::<chrono::NaiveDate>().unwrap().weekday()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_those_of_the_records_of_usage() {
    let world = World::new().await;
    let peer = LlmPeer::start().await;
    let file = world.llm_file(&peer);
    let settings = [("ATELIER_LLM_FILE", file.as_str())];
    let (api, worker) = (world.api_with(&settings).await, world.worker_with(&["interactive"], &settings).await);
    let member = world.member(&api).await;
    let mut spent = 0;
    for text in ["one", "two three"] {
        let body = json!({ "messages": [{ "role": "user", "content": text }], "model": "peer-model" });
        let answer = member.client.post("/ai/chat", body).await.expect(200);
        spent += answer["usage"]["total_tokens"].as_i64().unwrap();
    }
    worker.stop().await;
    assert!(spent > 0);
    assert_eq!(sums(&world, member.organization_id()).await.tokens, spent);
    let records = member.client.get("/ai/usage").await.expect(200);
    assert_eq!(records["usage"]["total_tokens"], spent);
    let usage = member.client.get("/analytics/usage?days=2").await.expect(200);
    assert_eq!(total(&usage, "tokens"), spent);
}

async fn project(world: &World, of: &Member, name: &str) -> Uuid {
    let id = Uuid::now_v7();
    diesel::sql_query("INSERT INTO projects (id, organization_id, created_by, name) VALUES ($1, $2, $3, $4)")
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(of.organization_id())
        .bind::<SqlUuid, _>(of.id())
        .bind::<Text, _>(name)
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn orchestrations_are_summed_up_and_the_busiest_projects_named() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let organization = member.organization_id();
    let add = async |organization, project, counts: OrchestrationCounts| {
        counts.add(&mut *world.conn().await, organization, project).await.unwrap();
    };
    let started = |started| OrchestrationCounts { started, ..Default::default() };
    for number in 1..=11 {
        let project = project(&world, &member, &format!("Project {number:02}")).await;
        add(organization, project, started(number)).await;
        if number == 11 {
            let ended = OrchestrationCounts {
                completed: 6,
                failed: 2,
                cancelled: 1,
                execution_ms: 4_000,
                ..Default::default()
            };
            add(organization, project, ended).await;
            let done = OrchestrationCounts { file_system: 5, git_operations: 3, deployment: 1, ..Default::default() };
            add(organization, project, done).await;
        }
    }
    // its project is gone
    add(organization, Uuid::now_v7(), OrchestrationCounts { completed: 2, execution_ms: 1_000, ..started(100) }).await;
    add(other.organization_id(), project(&world, &other, "Theirs").await, started(1_000)).await;
    let old = project(&world, &member, "Old").await;
    add(organization, old, started(500)).await;
    let long_ago = "UPDATE orchestration_days SET day = day - 30 WHERE project_id =";
    world.run_sql(&format!("{long_ago} '{old}'")).await;

    let told = member.client.get("/analytics/usage").await.expect(200);
    assert_eq!(
        told["runs_summary"],
        json!({
            "total_runs": 166, "completed_runs": 8, "failed_runs": 2, "avg_execution_time": 500.0,
            "success_rate": 80.0,
        })
    );
    assert_eq!(told["integration_usage"], json!({ "file_system": 5, "git_operations": 3, "deployment": 1 }));
    let top = told["top_projects"].as_array().unwrap();
    assert_eq!(top.len(), 10);
    let first = (&top[0]["project_name"], &top[0]["run_count"], &top[0]["success_rate"]);
    assert_eq!(first, (&json!("Project 11"), &json!(11), &json!(75.0)));
    let last = (&top[9]["project_name"], &top[9]["run_count"], &top[9]["success_rate"]);
    assert_eq!(last, (&json!("Project 02"), &json!(2), &json!(0.0)));
    let year = member.client.get("/analytics/usage?days=365").await.expect(200);
    assert_eq!(
        (&year["top_projects"][0]["project_id"], &year["top_projects"][0]["run_count"]),
        (&json!(old), &json!(500))
    );
    let nothing = world.member(&api).await.client.get("/analytics/usage").await.expect(200);
    assert_eq!(
        nothing["runs_summary"],
        json!({
            "total_runs": 0, "completed_runs": 0, "failed_runs": 0, "avg_execution_time": 0.0, "success_rate": 0.0,
        })
    );
    assert_eq!((&nothing["top_projects"], &nothing["integration_usage"]["deployment"]), (&json!([]), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_are_none_are_refused_and_performance_is_for_those_who_manage() {
    let world = World::new().await;
    let api = world.api().await;
    let admin = world.member(&api).await;
    for (query, field) in [
        ("days=0", "days"),
        ("days=366", "days"),
        ("days=1.5", "days"),
        ("days=%00", "days"),
        ("granularity=year", "granularity"),
        ("granularity=Day", "granularity"),
    ] {
        let answer = admin.client.get(&format!("/analytics/usage?{query}")).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], field, "{query}: {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    for (role, allowed) in [("manager", true), ("member", false), ("viewer", false)] {
        let colleague = world.colleague(&api, &admin, role).await;
        colleague.client.get("/analytics/usage").await.expect(200);
        let answer = colleague.client.get("/analytics/performance").await;
        if allowed {
            answer.expect(200);
        } else {
            assert_eq!(answer.error(403), "INSUFFICIENT_PERMISSIONS", "{role}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_sums_go_and_the_rest_stays() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (organization, now) = (tenant.organization, Utc::now());
    for days in [401, 399] {
        used(&world, organization, now - Days::new(days), 1, 1, 1.0).await;
        world
            .run_sql(&format!(
                "INSERT INTO orchestration_days (organization_id, project_id, day) \
                 VALUES ('{organization}', gen_random_uuid(), current_date - {days})"
            ))
            .await;
    }
    let minutes = [minute(organization, now - Days::new(2), 1, 1, (0, 0)), minute(organization, now, 1, 1, (0, 0))];
    write(&world, Uuid::new_v4(), &minutes).await;
    let _scheduler = world.scheduler().await;
    eventually("the old ones to go", async || {
        let left = (
            world.count_rows("usage_hours").await,
            world.count_rows("orchestration_days").await,
            world.count_rows("request_minutes").await,
        );
        (left == (3, 1, 1)).then_some(())
    })
    .await;
}
