//! `/ai/usage` and `/usage`: the same records, seen in several ways.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{BigInt, Int4, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use harness::{Member, World};
use serde_json::{Value, json};
use uuid::Uuid;

/// Writes a record of 10 + 5 tokens at 0.001 US dollars, made this long ago in SQL's words.
async fn used(world: &World, member: &Member, model: &str, status: &str, when: &str) {
    let tokens = if status == "completed" { 5 } else { 0 };
    diesel::sql_query(format!(
        "INSERT INTO usage_records (id, organization_id, user_id, job_id, endpoint, model, prompt_tokens, \
             completion_tokens, total_tokens, cost_nanos, status, response_time_ms, created_at) \
         VALUES ($1, $2, $3, $1, '/ai/chat', $4, $5 * 2, $5, $5 * 3, $6, $7, 120, {when})"
    ))
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<SqlUuid, _>(id(&member.registration["user"]["organization_id"]))
    .bind::<SqlUuid, _>(id(&member.registration["id"]))
    .bind::<Text, _>(model)
    .bind::<Int4, _>(tokens)
    .bind::<BigInt, _>(i64::from(tokens) * 200_000)
    .bind::<Text, _>(status)
    .execute(&mut *world.conn().await)
    .await
    .unwrap();
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_summed_up_by_model_and_by_day() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let other = world.member(&api).await;
    for (model, status, when) in [
        ("gpt-4", "completed", "'2026-03-01T23:59:59.999999Z'"),
        ("gpt-4", "completed", "'2026-03-02T00:00:00Z'"),
        ("gpt-4", "failed", "'2026-03-02T12:00:00Z'"),
        ("minimax", "completed", "'2026-03-03T23:59:59Z'"),
    ] {
        used(&world, &member, model, status, when).await;
    }
    used(&world, &other, "gpt-4", "completed", "'2026-03-02T00:00:00Z'").await;
    let client = &member.client;
    let sums = client.get("/ai/usage?start_date=2026-03-01&end_date=2026-03-03").await.expect(200);
    let usage = &sums["usage"];
    assert_eq!((&usage["total_requests"], &usage["total_tokens"]), (&json!(4), &json!(45)));
    assert_eq!(usage["total_cost"], json!(0.003));
    assert_eq!(
        usage["by_model"],
        json!({
            "gpt-4": { "requests": 3, "tokens": 30, "cost": 0.002 },
            "minimax": { "requests": 1, "tokens": 15, "cost": 0.001 },
        })
    );
    assert_eq!(
        usage["by_date"],
        json!([
            { "date": "2026-03-01", "requests": 1, "tokens": 15, "cost": 0.001 },
            { "date": "2026-03-02", "requests": 2, "tokens": 15, "cost": 0.001 },
            { "date": "2026-03-03", "requests": 1, "tokens": 15, "cost": 0.001 },
        ])
    );
    let one = client.get("/ai/usage?start_date=2026-03-02T00:00:00Z&end_date=2026-03-02T12:00:00Z").await.expect(200);
    assert_eq!(one["usage"]["total_requests"], 2, "both ends are included");
    let one = client.get("/ai/usage?start_date=2026-03-01&end_date=2026-03-31&model=minimax").await.expect(200);
    assert_eq!(one["usage"]["total_requests"], 1);
    let both = client.get("/ai/usage?start_date=2026-03-01&end_date=2026-03-31&model=minimax,gpt-4").await.expect(200);
    assert_eq!(both["usage"]["total_requests"], 4);

    let list = client.get("/usage?start_date=2026-03-02&end_date=2026-03-02&sort=asc").await.expect(200);
    assert_eq!(list["pagination"]["total"], 2);
    let first = &list["data"][0];
    assert_eq!((&first["date"], &first["endpoint"]), (&json!("2026-03-02"), &json!("/ai/chat")));
    assert_eq!((&first["prompt_tokens"], &first["completion_tokens"]), (&json!(10), &json!(5)));
    assert_eq!((&first["total_tokens"], &first["cost"]), (&json!(15), &json!(0.001)));
    assert_eq!((&first["status"], &first["response_time_ms"]), (&json!("completed"), &json!(120)));
    assert_eq!(list["data"][1]["status"], "failed");
    assert_eq!(client.get("/usage?model=minimax").await.expect(200)["pagination"]["total"], 1);
    assert_eq!(client.get("/usage").await.expect(200)["data"][0]["model"], "minimax", "newest first");
    assert_eq!(client.get("/usage").await.expect(200)["pagination"]["limit"], 20);
    assert_eq!(other.client.get("/usage").await.expect(200)["pagination"]["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_look_back_thirty_days_unless_told_otherwise() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    used(&world, &member, "gpt-4", "completed", "now() - interval '29 days'").await;
    used(&world, &member, "gpt-4", "completed", "now() - interval '31 days'").await;
    let sums = member.client.get("/ai/usage").await.expect(200);
    assert_eq!(sums["usage"]["total_requests"], 1);
    assert_eq!(member.client.get("/ai/usage?start_date=2020-01-01").await.expect(200)["usage"]["total_requests"], 2);
    let nobody = world.member(&api).await.client.get("/ai/usage").await.expect(200);
    assert_eq!(
        nobody["usage"],
        json!({ "total_requests": 0, "total_tokens": 0, "total_cost": 0.0, "by_model": {}, "by_date": [] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_that_are_none_or_in_the_wrong_order_are_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.member(&api).await.client;
    for (path, field) in [
        ("/ai/usage?start_date=yesterday", "start_date"),
        ("/ai/usage?end_date=2026-13-01", "end_date"),
        ("/ai/usage?start_date=2026-03-02&end_date=2026-03-01", "start_date"),
        ("/usage?start_date=yesterday", "start_date"),
        ("/usage?end_date=2026-02-30", "end_date"),
        ("/usage?sort=cost", "sort"),
        ("/usage?limit=101", "limit"),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], field, "{path}: {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
}
