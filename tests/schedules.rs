//! Schedules of pipelines, as clients make them and as the scheduler ticks them.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use harness::{Answer, Member, World, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

#[derive(Debug, QueryableByName)]
struct Ticked {
    #[diesel(sql_type = BigInt)]
    runs: i64,
    #[diesel(sql_type = BigInt)]
    ticks: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    first: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    inputs: Option<String>,
}

#[derive(Debug, QueryableByName)]
struct Last {
    #[diesel(sql_type = Timestamptz)]
    last: DateTime<Utc>,
}

fn fields(answer: &Answer) -> BTreeSet<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|d| d["field"].as_str().unwrap()).collect()
}

async fn ticked(world: &World, schedule: &str) -> Ticked {
    diesel::sql_query(
        "SELECT count(*) AS runs, count(DISTINCT scheduled_at) AS ticks, min(scheduled_at) AS first, \
                min(inputs::text) AS inputs \
         FROM executions WHERE schedule_id = $1",
    )
    .bind::<SqlUuid, _>(schedule.parse::<Uuid>().unwrap())
    .get_result(&mut world.conn().await)
    .await
    .unwrap()
}

/// A pipeline with one input; returns the path of its schedules.
async fn pipeline(member: &Member) -> (String, String) {
    let node = json!({ "id": "in", "type": "input" });
    let made = member.client.post("/pipelines", json!({ "name": "Daily", "nodes": [node] })).await.expect(201);
    let path = format!("/pipelines/{}", made["id"].as_str().unwrap());
    (format!("{path}/schedules"), path)
}

async fn schedule(member: &Member, path: &str, change: Value) -> Value {
    let mut body = json!({ "cron": "* * * * *", "inputs": { "in": { "text": "hello" } } });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    member.client.post(path, body).await.expect(201)
}

fn id(of: &Value) -> &str {
    of["id"].as_str().unwrap()
}

fn time(of: &Value) -> DateTime<Utc> {
    of.as_str().unwrap().parse().unwrap()
}

/// Lets the clock stand so that a schedule's next tick was some time ago.
async fn set_next(world: &World, schedule: &Value, ago: &str) {
    let id = id(schedule);
    let set = format!(
        "UPDATE pipeline_schedules SET next_run_at = date_trunc('minute', now()) - interval '{ago}' WHERE id = '{id}'"
    );
    world.run_sql(&set).await;
}

/// Waits until the next tick of a schedule lies ahead.
async fn wait_for_next(member: &Member, path: &str, schedule: &Value) -> Value {
    let path = format!("{path}/{}", id(schedule));
    eventually("the next tick to lie ahead", async || {
        let shown = member.client.get(&path).await.expect(200);
        (time(&shown["next_run_at"]) > Utc::now()).then_some(shown)
    })
    .await
}

/// Runs that no worker of the test was to do.
async fn discard_jobs(world: &World) {
    world.run_sql("DELETE FROM jobs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_made_shown_changed_and_deleted() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, _) = pipeline(&member).await;
    let body =
        json!({ "cron": "30 9 * * *", "timezone": "Asia/Tokyo", "inputs": { "in": "hello" }, "missed": "run_once" });
    let made = member.client.post(&path, body).await.expect(201);
    let next = time(&made["next_run_at"]);
    assert_eq!(next.format("%H:%M:%S").to_string(), "00:30:00", "half past nine in Tokyo");
    assert!(next > Utc::now() && next < Utc::now() + TimeDelta::hours(25));
    assert_eq!(
        (&made["enabled"], &made["missed"], &made["last_run_at"]),
        (&json!(true), &json!("run_once"), &Value::Null)
    );
    let one = format!("{path}/{}", id(&made));
    assert_eq!(member.client.get(&one).await.expect(200), made);

    let renamed = member.client.patch(&one, json!({ "inputs": { "in": "again" }, "missed": "skip" })).await.expect(200);
    assert_eq!((&renamed["inputs"]["in"], &renamed["missed"]), (&json!("again"), &json!("skip")));
    assert_eq!(renamed["next_run_at"], made["next_run_at"], "the time has not changed");
    let off = member.client.put(&one, json!({ "enabled": false })).await.expect(200);
    assert_eq!((&off["enabled"], &off["next_run_at"]), (&json!(false), &Value::Null));
    let on = member
        .client
        .put(&one, json!({ "enabled": true, "cron": "0 0 12 * * *", "timezone": "UTC" }))
        .await
        .expect(200);
    assert_eq!(time(&on["next_run_at"]).format("%H:%M:%S").to_string(), "12:00:00");
    let defaults = member.client.post(&path, json!({ "cron": "@hourly", "inputs": { "in": "x" } })).await.expect(201);
    assert_eq!((&defaults["timezone"], &defaults["missed"]), (&json!("UTC"), &json!("skip")));
    let list = member.client.get(&format!("{path}?sort=next_run_at")).await.expect(200);
    assert_eq!(list["pagination"]["total"], 2);
    member.client.delete(&one).await.expect(204);
    member.client.delete(&one).await.error(404);
    assert_eq!(member.client.get(&one).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(member.client.put(&one, json!({})).await.error(404), "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_schedule_is_named_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, _) = pipeline(&member).await;
    let wrong = json!({ "cron": "61 * * * *", "timezone": "Mars/Olympus", "inputs": { "out": 1 } });
    let answer = member.client.post(&path, wrong).await;
    assert_eq!(fields(&answer), BTreeSet::from(["cron", "timezone", "inputs.in", "inputs.out"]));
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
    let input = json!({ "in": "a" });
    for (body, field) in [
        (json!({ "inputs": input }), "cron"),
        (json!({ "cron": "0 0 30 2 *", "inputs": input }), "cron"),
        (json!({ "cron": "* * *", "inputs": input }), "cron"),
        (json!({ "cron": "* * * * *", "inputs": input, "missed": "all" }), "missed"),
        (json!({ "cron": "* * * * *" }), "inputs.in"),
    ] {
        let answer = member.client.post(&path, body).await;
        assert_eq!(fields(&answer), BTreeSet::from([field]), "{}", answer.text);
        answer.error(400);
    }
    let made = schedule(&member, &path, json!({ "enabled": false })).await;
    let one = format!("{path}/{}", id(&made));
    let answer = member.client.put(&one, json!({ "cron": "never", "inputs": {} })).await;
    assert_eq!(fields(&answer), BTreeSet::from(["cron", "inputs.in"]));
    answer.error(400);
    let (other, _) = pipeline(&member).await;
    member.client.get(&format!("{other}/{}", id(&made))).await.error(404);
    let stranger = world.member(&api).await;
    stranger.client.get(&path).await.error(404);
    stranger.client.get(&one).await.error(404);
    let viewer = world.colleague(&api, &member, "viewer").await;
    viewer.client.get(&one).await.expect(200);
    viewer.client.delete(&one).await.error(403);
    viewer.client.put(&one, json!({})).await.error(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_starts_one_run_with_the_inputs_of_its_schedule() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, pipeline) = pipeline(&member).await;
    let made = schedule(&member, &path, json!({ "cron": "0 0 1 1 *" })).await;
    world.run_sql("UPDATE pipeline_schedules SET next_run_at = now() - interval '5 seconds'").await;
    let _scheduler = world.scheduler().await;
    let after = wait_for_next(&member, &path, &made).await;
    assert!(time(&after["last_run_at"]) <= Utc::now());
    let runs = ticked(&world, id(&made)).await;
    assert_eq!((runs.runs, runs.ticks), (1, 1));
    assert_eq!(runs.inputs.as_deref(), Some(r#"{"in": {"text": "hello"}}"#));
    eventually("Redis to know of it", async || (world.queue("pipelines").depth().await.ok()?.ready == 1).then_some(()))
        .await;
    let list = member.client.get("/executions").await.expect(200);
    assert_eq!((&list["data"][0]["status"], &list["data"][0]["pipeline_name"]), (&json!("queued"), &json!("Daily")));
    assert!(!member.client.get(&pipeline).await.expect(200)["last_executed"].is_null());
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_ticks_are_skipped_or_made_up_for_by_one_run_as_the_schedule_says() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, _) = pipeline(&member).await;
    let skip = schedule(&member, &path, json!({})).await;
    let once = schedule(&member, &path, json!({ "missed": "run_once" })).await;
    // 20 of the month's ticks lie behind, all beyond what counts as met
    let hourly = json!({ "cron": "0 * * * *", "timezone": "UTC" });
    for made in [&skip, &once] {
        member.client.put(&format!("{path}/{}", id(made)), hourly.clone()).await.expect(200);
        set_next(&world, made, "20 hours").await;
    }
    let _scheduler = world.scheduler().await;
    for made in [&skip, &once] {
        let after = wait_for_next(&member, &path, made).await;
        assert!(time(&after["next_run_at"]) <= Utc::now() + TimeDelta::hours(1), "it is the first that lies ahead");
    }
    // nothing more may come of either: the next tick of both lies ahead
    assert_eq!(ticked(&world, id(&skip)).await.runs, 0);
    let runs = ticked(&world, id(&once)).await;
    assert_eq!(runs.runs, 1);
    assert!(runs.first.unwrap() < Utc::now() - TimeDelta::hours(19));
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ticks_within_a_moment_are_all_met_and_none_twice_though_two_lead() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, _) = pipeline(&member).await;
    let made = schedule(&member, &path, json!({ "cron": "* * * * * *" })).await;
    world
        .run_sql("UPDATE pipeline_schedules SET next_run_at = date_trunc('second', now()) - interval '10 seconds'")
        .await;
    let first = world.scheduler().await;
    eventually("the ticks of ten seconds", async || (ticked(&world, id(&made)).await.runs >= 11).then_some(())).await;
    // the seat is taken from the first in the middle of its work; both stand for it again
    let second = world.scheduler().await;
    world
        .run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'atelier scheduler'",
        )
        .await;
    let before = ticked(&world, id(&made)).await.runs;
    eventually("more ticks under whoever leads now", async || {
        (ticked(&world, id(&made)).await.runs > before + 3).then_some(())
    })
    .await;
    member.client.put(&format!("{path}/{}", id(&made)), json!({ "enabled": false })).await.expect(200);
    let runs = ticked(&world, id(&made)).await;
    assert_eq!(runs.runs, runs.ticks, "each tick has one run");
    first.stop().await;
    second.stop().await;
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_between_ticks_is_followed_by_one_that_meets_each_tick_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, _) = pipeline(&member).await;
    let made = schedule(&member, &path, json!({ "cron": "* * * * * *" })).await;
    world.run_sql("UPDATE pipeline_schedules SET next_run_at = date_trunc('second', now())").await;
    let mut leader = world.process(&["scheduler"], &[]);
    eventually("ticks of the first leader", async || (ticked(&world, id(&made)).await.runs >= 2).then_some(())).await;
    let first = ticked(&world, id(&made)).await.first.unwrap();
    let follower = world.scheduler().await;
    leader.kill();
    let before = ticked(&world, id(&made)).await.runs;
    eventually("ticks of its successor", async || (ticked(&world, id(&made)).await.runs > before + 3).then_some(()))
        .await;
    follower.stop().await;
    member.client.put(&format!("{path}/{}", id(&made)), json!({ "enabled": false })).await.expect(200);
    let last: Last = diesel::sql_query("SELECT max(scheduled_at) AS last FROM executions")
        .get_result(&mut world.conn().await)
        .await
        .unwrap();
    let (runs, seconds) = (ticked(&world, id(&made)).await, (last.last - first).num_seconds());
    assert_eq!((runs.runs, runs.ticks), (seconds + 1, seconds + 1), "one run for each second, none left out");
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_pipeline_rests_and_the_schedules_of_a_deleted_one_are_gone() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (path, pipeline) = pipeline(&member).await;
    let made = schedule(&member, &path, json!({ "cron": "0 0 1 1 *", "missed": "run_once" })).await;
    member.client.patch(&pipeline, json!({ "status": "archived" })).await.expect(200);
    world.run_sql("UPDATE pipeline_schedules SET next_run_at = now() - interval '1 second'").await;
    let _scheduler = world.scheduler().await;
    let after = wait_for_next(&member, &path, &made).await;
    assert_eq!((after["last_run_at"].clone(), ticked(&world, id(&made)).await.runs), (Value::Null, 0));
    member.client.delete(&pipeline).await.expect(204);
    member.client.get(&path).await.error(404);
    let left: Ticked = diesel::sql_query(
        "SELECT count(*) AS runs, 0::bigint AS ticks, NULL::timestamptz AS first, NULL AS inputs FROM pipeline_schedules",
    )
    .get_result(&mut world.conn().await)
    .await
    .unwrap();
    assert_eq!(left.runs, 0);
}
