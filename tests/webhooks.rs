//! Webhooks as their owner uses them: making, changing, testing, rotating, and looking at what was delivered.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use harness::{Answer, Member, World, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(QueryableByName)]
struct Secrets {
    #[diesel(sql_type = Text)]
    secret: String,
    #[diesel(sql_type = Nullable<Text>)]
    previous_secret: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    previous_secret_until: Option<DateTime<Utc>>,
}

async fn secrets(world: &World, id: &str) -> Secrets {
    let query = diesel::sql_query("SELECT secret, previous_secret, previous_secret_until FROM webhooks WHERE id = $1");
    let query = query.bind::<SqlUuid, _>(id.parse::<Uuid>().unwrap());
    query.get_result(&mut world.conn().await).await.unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|element| text(element, "id")).collect()
}

/// The fields that an answer complains of.
fn fields(answer: &Answer) -> BTreeSet<&str> {
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.text);
    answer.body["error"]["details"].as_array().unwrap().iter().map(|detail| text(detail, "field")).collect()
}

fn request() -> Value {
    json!({ "url": "https://example.com/hook", "events": ["execution.completed"] })
}

async fn webhook(member: &Member) -> String {
    let made = member.client.post("/webhooks", request()).await.expect(201);
    text(&made, "id").to_owned()
}

/// A delivery of a webhook that has ended: `failed` or `completed`, so many minutes ago, after one request.
async fn ended(world: &World, webhook: &str, event: &str, status: &str, minutes: i64) -> String {
    let id = Uuid::now_v7();
    let at = Utc::now() - TimeDelta::minutes(minutes);
    world.run_sql(&format!(
            "INSERT INTO jobs (id, kind, queue, organization_id, user_id, payload, max_attempts, status, attempt, \
                 created_at, finished_at, error_code, error_message, result) \
             SELECT '{id}', 'webhook_delivery', 'webhooks', organization_id, user_id, \
                 '{{\"kind\": \"webhook_delivery\"}}', 100, '{status}', 1, '{at}', '{at}', \
                 CASE '{status}' WHEN 'failed' THEN 'undeliverable' END, \
                 CASE '{status}' WHEN 'failed' THEN 'It answered 500' END, '{{}}' \
             FROM webhooks WHERE id = '{webhook}'; \
             INSERT INTO webhook_deliveries (id, webhook_id, event, body, created_at) \
             VALUES ('{id}', '{webhook}', '{event}', '{{\"id\":\"{id}\",\"event\":\"{event}\",\"data\":{{\"n\":1}}}}', '{at}'); \
             INSERT INTO webhook_attempts (delivery_id, attempt, sent_at, latency_ms, status, error, answer) \
             VALUES ('{id}', 1, '{at}', 12, CASE '{status}' WHEN 'failed' THEN 500 ELSE 204 END, \
                 CASE '{status}' WHEN 'failed' THEN 'It answered 500' END, 'oh')"
        ),
    )
    .await;
    id.to_string()
}

/// Nobody sends them here, and a test leaves nothing waiting.
async fn clear(world: &World) {
    world.run_sql("DELETE FROM jobs WHERE kind = 'webhook_delivery'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_has_every_documented_field_under_both_names() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let sent = json!({
        "url": "https://hooks.example.com/a?b=c", "events": ["ai.task.completed", "quota.warning", "ai.task.completed"],
        "secret_key": "webhook_secret_123", "is_active": false, "ordered": true, "unknown": 1,
    });
    let made = member.client.post("/webhooks", sent).await.expect(201);
    assert_eq!(made["events"], json!(["ai.task.completed", "quota.warning"]), "each once");
    assert_eq!((text(&made, "name"), text(&made, "secret")), ("hooks.example.com", "webhook_secret_123"));
    assert_eq!((&made["active"], &made["is_active"], &made["ordered"]), (&json!(false), &json!(false), &json!(true)));
    for null in ["last_delivery", "last_triggered_at", "disabled_reason"] {
        assert!(made[null].is_null() && made.get(null).is_some(), "{null} is there and null");
    }
    assert_eq!((&made["failures"], made.as_object().unwrap().len()), (&json!(0), 14));

    let id = text(&made, "id").to_owned();
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("secret");
    assert_eq!(member.client.get(&format!("/webhooks/{id}")).await.expect(200), shown, "the secret is shown once");
    assert_eq!(member.client.get("/webhooks").await.expect(200)["data"], json!([shown]));

    let other = member.client.post("/webhooks", request()).await.expect(201);
    let secret = text(&other, "secret");
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
    assert_eq!(secrets(&world, text(&other, "id")).await.secret, secret);
    let by_name = member.client.get("/webhooks?sort=-name").await.expect(200);
    assert_eq!(ids(&by_name), [id.as_str(), text(&other, "id")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_changes_and_the_rest_stays() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = webhook(&member).await;
    let path = format!("/webhooks/{id}");
    let before = member.client.get(&path).await.expect(200);
    let renamed = member.client.put(&path, json!({ "name": "Mine", "active": null })).await.expect(200);
    assert_eq!((text(&renamed, "name"), &renamed["url"], &renamed["active"]), ("Mine", &before["url"], &json!(true)));
    assert!(renamed["updated_at"].as_str() > before["updated_at"].as_str() && renamed.get("secret").is_none());

    world.run_sql("UPDATE webhooks SET is_active = FALSE, disabled_reason = 'failing', failures = 20").await;
    let off = member.client.get(&path).await.expect(200);
    assert_eq!(
        (&off["active"], &off["disabled_reason"], &off["failures"]),
        (&json!(false), &json!("failing"), &json!(20))
    );
    let still = member.client.patch(&path, json!({ "events": ["job.failed"] })).await.expect(200);
    assert_eq!((&still["disabled_reason"], &still["events"]), (&json!("failing"), &json!(["job.failed"])));
    let on = member.client.patch(&path, json!({ "is_active": true })).await.expect(200);
    assert_eq!((&on["active"], &on["disabled_reason"], &on["failures"]), (&json!(true), &Value::Null, &json!(0)));

    member.client.put(&path, json!({ "secret": "another" })).await.expect(200);
    let stored = secrets(&world, &id).await;
    assert_eq!((stored.secret.as_str(), stored.previous_secret), ("another", None), "replaced at once");

    let gone = member.client.delete(&path).await.expect(200);
    assert_eq!(gone, json!({ "message": "Webhook deleted successfully" }));
    member.client.get(&path).await.error(404);
    member.client.delete(&path).await.error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_checked_and_all_mistakes_are_named_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let wrong = json!({
        "url": "ftp://example.com/", "events": ["job.failed", "job.started", "webhook.test"], "name": " ",
        "secret": "", "secret_key": "x", "active": true, "is_active": false,
    });
    let expected = BTreeSet::from(["url", "events[1]", "events[2]", "name", "secret", "secret_key", "is_active"]);
    assert_eq!(fields(&member.client.post("/webhooks", wrong.clone()).await), expected);
    let id = webhook(&member).await;
    assert_eq!(fields(&member.client.put(&format!("/webhooks/{id}"), wrong).await), expected);
    assert_eq!(fields(&member.client.post("/webhooks", json!({})).await), BTreeSet::from(["url", "events"]));

    let long = "x".repeat(201);
    for (field, value) in [
        ("events", json!([])),
        ("events", json!("job.failed")),
        ("secret", json!(long)),
        ("secret", json!("whsec_")),
        ("secret", json!("whsec_not base64")),
        ("name", json!(long)),
        ("url", json!(format!("https://example.com/{}", "x".repeat(2_048)))),
        ("ordered", json!("yes")),
        ("name", json!("a\0b")),
    ] {
        let mut body = request();
        body[field] = value;
        assert_eq!(fields(&member.client.post("/webhooks", body.clone()).await), BTreeSet::from([field]), "{body}");
    }
    for url in [
        "",
        "example.com",
        "/hook",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http://",
        "http://localhost/",
        "http://a.localhost./",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[64:ff9b::7f00:1]/",
        "http://0/",
        "http://１２７.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1:80@127.0.0.1/",
    ] {
        let mut body = request();
        body["url"] = json!(url);
        assert_eq!(fields(&member.client.post("/webhooks", body).await), BTreeSet::from(["url"]), "{url}");
    }
    assert_eq!(world.count_rows("webhooks").await, 1, "nothing was stored");

    let private = world.api_with(&[("ATELIER_WEBHOOK_ALLOW_PRIVATE", "on")]).await;
    let member = world.member(&private).await;
    let body = json!({ "url": "http://127.0.0.1:9000/", "events": ["job.failed"] });
    member.client.post("/webhooks", body).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_hundred_webhooks_at_most_however_many_are_asked_for_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    world
        .run_sql(&format!(
            "INSERT INTO webhooks (id, user_id, organization_id, name, url, events, secret) \
             SELECT gen_random_uuid(), '{}', '{}', 'x', 'https://example.com/', ARRAY['job.failed'], 's' \
             FROM generate_series(1, 97)",
            member.id(),
            member.organization_id()
        ))
        .await;
    let asked = (0..10).map(|_| member.client.post("/webhooks", request()));
    let answers = futures_util::future::join_all(asked).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status.as_u16() == 201);
    assert_eq!(made.len(), 3);
    for answer in refused {
        assert_eq!(answer.error(409), "CONFLICT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_finds_a_webhook_or_what_was_delivered_to_it() {
    let world = World::new().await;
    let api = world.api().await;
    let owner = world.member(&api).await;
    let id = webhook(&owner).await;
    let delivery = ended(&world, &id, "execution.completed", "failed", 1).await;
    let colleague = world.colleague(&api, &owner, "admin").await;
    let stranger = world.member(&api).await;
    let own = webhook(&stranger).await;
    let get = |path: String| ("GET", path, Value::Null);
    let post = |path: String| ("POST", path, json!({}));
    let requests = [
        get(format!("/webhooks/{id}")),
        ("PUT", format!("/webhooks/{id}"), json!({ "name": "Mine" })),
        ("DELETE", format!("/webhooks/{id}"), Value::Null),
        post(format!("/webhooks/{id}/test")),
        post(format!("/webhooks/{id}/rotate-secret")),
        ("POST", format!("/webhooks/{id}/replay"), json!({ "since": "2025-01-01T00:00:00Z" })),
        get(format!("/webhooks/{id}/deliveries")),
        get(format!("/webhooks/{id}/deliveries/{delivery}")),
        post(format!("/webhooks/{id}/deliveries/{delivery}/redeliver")),
        // a delivery belongs to its webhook
        get(format!("/webhooks/{own}/deliveries/{delivery}")),
        post(format!("/webhooks/{own}/deliveries/{delivery}/redeliver")),
        get("/webhooks/nonsense".to_owned()),
    ];
    for member in [&colleague, &stranger] {
        for (method, path, body) in &requests {
            let request = member.client.request(method.parse().unwrap(), &format!("/api/v1{path}"));
            let answer = member.client.send(if body.is_null() { request } else { request.json(body) }).await;
            assert_eq!(answer.error(404), "RESOURCE_NOT_FOUND", "{method} {path}");
        }
    }
    assert_eq!(ids(&colleague.client.get("/webhooks").await.expect(200)), Vec::<&str>::new());

    let viewer = world.colleague(&api, &owner, "viewer").await;
    assert_eq!(viewer.client.post("/webhooks", request()).await.error(403), "INSUFFICIENT_PERMISSIONS");
    viewer.client.get("/webhooks").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_written_also_for_a_webhook_that_is_switched_off() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = webhook(&member).await;
    member.client.put(&format!("/webhooks/{id}"), json!({ "active": false })).await.expect(200);
    let queued = member.client.post(&format!("/webhooks/{id}/test"), json!({})).await.expect(202);
    assert_eq!(queued["status"], "queued");
    let path = format!("/webhooks/{id}/deliveries/{}", text(&queued, "delivery_id"));
    let timeline = member.client.get(&path).await.expect(200);
    assert_eq!(timeline["event"]["event"], "webhook.test");
    let body = &timeline["event"]["body"];
    assert_eq!((&body["id"], &body["event"]), (&queued["delivery_id"], &json!("webhook.test")));
    let data = body["data"].as_object().unwrap();
    assert_eq!(
        data.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(["message", "timestamp", "user_id"])
    );
    assert_eq!(data["user_id"], member.registration["id"]);
    assert_eq!((&timeline["delivery"]["status"], &timeline["attempts"]), (&json!("pending"), &json!([])));
    assert!(timeline["delivery"]["next_attempt_at"].is_string());
    let waiting = world.queue("webhooks").depth().await.unwrap();
    assert_eq!(waiting.ready, 1, "the queue was told");
    assert_eq!(member.client.post(&format!("{path}/redeliver"), json!({})).await.error(409), "CONFLICT");
    clear(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_filtered_and_shown_try_by_try() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = webhook(&member).await;
    let failed = ended(&world, &id, "execution.failed", "failed", 30).await;
    let delivered = ended(&world, &id, "execution.completed", "completed", 20).await;
    world
        .run_sql(&format!(
            "INSERT INTO webhook_attempts (delivery_id, attempt, sent_at, latency_ms, error) \
                  VALUES ('{failed}', 3, now(), 15000, 'No answer in time')"
        ))
        .await;
    let list = |query: &str| {
        let path = format!("/webhooks/{id}/deliveries{query}");
        let client = member.client.clone();
        async move { client.get(&path).await.expect(200) }
    };
    let all = list("").await;
    assert_eq!(ids(&all), [delivered.as_str(), &failed], "newest first");
    let expected = json!({
        "id": failed, "event": "execution.failed", "status": "failed", "attempts": 2, "response_status": null,
        "error": "It answered 500", "next_attempt_at": null, "created_at": all["data"][1]["created_at"],
        "delivered_at": null,
    });
    assert_eq!(all["data"][1], expected);
    assert_eq!(all["data"][0]["response_status"], 204);
    assert!(all["data"][0]["delivered_at"].is_string() && all["data"][0]["error"].is_null());
    assert_eq!(ids(&list("?status=failed").await), [failed.as_str()]);
    assert_eq!(ids(&list("?status=pending").await), Vec::<&str>::new());
    assert_eq!(ids(&list("?status=delivered,failed&event=execution.completed").await), [delivered.as_str()]);
    let since = (Utc::now() - TimeDelta::minutes(25)).format("%Y-%m-%dT%H:%M:%SZ");
    assert_eq!(ids(&list(&format!("?created_after={since}")).await), [delivered.as_str()]);
    let first = list("?limit=1").await;
    let next = text(&first["pagination"], "next_cursor");
    assert_eq!(ids(&list(&format!("?limit=1&cursor={next}")).await), [failed.as_str()]);
    let wrong = member.client.get(&format!("/webhooks/{id}/deliveries?status=lost&event=x")).await;
    assert_eq!(fields(&wrong), BTreeSet::from(["status", "event"]));

    let timeline = member.client.get(&format!("/webhooks/{id}/deliveries/{failed}")).await.expect(200);
    assert_eq!(timeline["delivery"], expected);
    assert_eq!(timeline["event"]["body"], json!({ "id": failed, "event": "execution.failed", "data": { "n": 1 } }));
    let tries = timeline["attempts"].as_array().unwrap();
    assert_eq!(tries.iter().map(|one| one["attempt"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        (&tries[0]["status"], &tries[0]["answer"], &tries[0]["latency_ms"]),
        (&json!(500), &json!("oh"), &json!(12))
    );
    assert_eq!((&tries[1]["status"], &tries[1]["error"]), (&Value::Null, &json!("No answer in time")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_sent_again_with_the_same_id() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = webhook(&member).await;
    let path = format!("/webhooks/{id}");
    for status in ["failed", "completed"] {
        let delivery = ended(&world, &id, "execution.completed", status, 5).await;
        let again = format!("{path}/deliveries/{delivery}/redeliver");
        let queued = member.client.post(&again, json!({})).await.expect(202);
        assert_eq!(queued, json!({ "delivery_id": delivery, "status": "queued" }));
        let job = world.job(delivery.parse().unwrap()).await;
        assert_eq!((job.status.as_str(), job.charged_attempts(), job.finished_at), ("queued", 0, None));
        assert_eq!((job.error_message, job.result), (None, None));
        let shown = &member.client.get(&format!("{path}/deliveries/{delivery}")).await.expect(200)["delivery"];
        assert_eq!((&shown["status"], &shown["attempts"]), (&json!("pending"), &json!(1)));
        assert_eq!(member.client.post(&again, json!({})).await.error(409), "CONFLICT", "it is on its way");
    }
    let delivery = ended(&world, &id, "execution.completed", "failed", 5).await;
    member.client.put(&path, json!({ "active": false })).await.expect(200);
    let refused = member.client.post(&format!("{path}/deliveries/{delivery}/redeliver"), json!({})).await;
    assert_eq!(refused.error(409), "CONFLICT", "nothing is sent to a webhook that is switched off");
    let replay = json!({ "since": "2025-01-01T00:00:00Z" });
    assert_eq!(member.client.post(&format!("{path}/replay"), replay).await.error(409), "CONFLICT");
    clear(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_replayed_in_order_and_what_is_on_its_way_is_left_alone() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (id, other) = (webhook(&member).await, webhook(&member).await);
    let mut written = Vec::new();
    for minutes in (1..=10).rev() {
        let status = if minutes % 2 == 0 { "failed" } else { "completed" };
        written.push(ended(&world, &id, "execution.completed", status, minutes * 10).await);
        ended(&world, &other, "execution.completed", status, minutes * 10).await;
    }
    ended(&world, &id, "webhook.test", "failed", 35).await;
    let at = |minutes| (Utc::now() - TimeDelta::minutes(minutes)).to_rfc3339();
    let replay = |body: Value| {
        let (client, path) = (member.client.clone(), format!("/webhooks/{id}/replay"));
        async move { client.post(&path, body).await }
    };
    let answer = replay(json!({ "since": at(85), "until": at(25), "status": "failed" })).await.expect(202);
    assert_eq!(answer, json!({ "queued": 3, "more": false }), "80, 60 and 40 minutes ago");
    let pending = member.client.get(&format!("/webhooks/{id}/deliveries?status=pending&sort=created_at")).await;
    let expected = [&written[2], &written[4], &written[6]];
    assert_eq!(ids(&pending.expect(200)), expected);
    let again = replay(json!({ "since": at(85), "until": at(25) })).await.expect(202);
    assert_eq!(again["queued"], 3, "the delivered ones; those that failed are on their way");
    assert_eq!(replay(json!({ "since": at(200) })).await.expect(202)["queued"], 4);
    assert_eq!(world.count_rows("jobs WHERE kind = 'webhook_delivery' AND status = 'queued'").await, 10);
    assert_eq!(world.queue("webhooks").depth().await.unwrap().ready, 10, "the queue was told");

    assert_eq!(fields(&replay(json!({})).await), BTreeSet::from(["since"]));
    let wrong = json!({ "since": at(1), "until": at(2), "status": "pending" });
    assert_eq!(fields(&replay(wrong).await), BTreeSet::from(["status", "until"]));
    assert_eq!(fields(&replay(json!({ "since": "yesterday" })).await), BTreeSet::from(["since"]));
    clear(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_stands_beside_the_old_one_for_a_day_and_the_log_of_changes_knows_neither() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let made = member.client.post("/webhooks", request()).await.expect(201);
    let path = format!("/webhooks/{}", text(&made, "id"));
    let rotated = member.client.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200);
    let (old, new) = (text(&made, "secret"), text(&rotated, "secret"));
    assert!(new.starts_with("whsec_") && new != old);
    let stored = secrets(&world, text(&made, "id")).await;
    assert_eq!((stored.secret.as_str(), stored.previous_secret.as_deref()), (new, Some(old)));
    let left = stored.previous_secret_until.unwrap() - Utc::now();
    assert!(left > TimeDelta::hours(23) && left <= TimeDelta::hours(24), "{left}");
    member.client.put(&path, json!({ "secret": "third secret" })).await.expect(200);
    member.client.delete(&path).await.expect(200);

    let rows: Vec<Words> = diesel::sql_query(
        "SELECT action || ' ' || data::text AS text FROM audit_entries WHERE target_type = 'webhook' \
         AND actor_id IS NOT NULL AND request_id IS NOT NULL ORDER BY id",
    )
    .load(&mut world.conn().await)
    .await
    .unwrap();
    let actions: Vec<_> = rows.iter().map(|row| row.text.split(' ').next().unwrap()).collect();
    let expected =
        ["webhook.created", "webhook.secret_rotated", "webhook.updated", "webhook.secret_rotated", "webhook.deleted"];
    assert_eq!(actions, expected);
    for row in rows {
        assert!(![old, new, "third secret", "/hook"].iter().any(|secret| row.text.contains(secret)), "{}", row.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_and_mails_are_kept_for_thirty_days() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = webhook(&member).await;
    const DAY: i64 = 24 * 60;
    let old = ended(&world, &id, "job.failed", "failed", 31 * DAY).await;
    let young = ended(&world, &id, "job.failed", "completed", 29 * DAY).await;
    let mail = ended(&world, &id, "job.failed", "completed", 31 * DAY).await;
    world
        .run_sql(&format!(
            "DELETE FROM webhook_deliveries WHERE id = '{mail}'; UPDATE jobs SET kind = 'mail' WHERE id = '{mail}'; \
             INSERT INTO mails (id, user_id, recipient, template, notice, created_at) \
             VALUES ('{mail}', '{}', 'a@example.com', 'welcome', FALSE, now() - interval '31 days')",
            member.id()
        ))
        .await;
    let _scheduler = world.scheduler_with(&[("ATELIER_PRUNE_EVERY", "1")]).await;
    eventually("the old ones to go", async || {
        (world.count_rows(&format!("jobs WHERE id IN ('{old}', '{mail}')")).await == 0).then_some(())
    })
    .await;
    assert_eq!(ids(&member.client.get(&format!("/webhooks/{id}/deliveries")).await.expect(200)), [young.as_str()]);
    assert_eq!(world.count_rows(&format!("webhook_attempts WHERE delivery_id = '{old}'")).await, 0);
}
