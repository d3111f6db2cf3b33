//! Quotas: what counts, what is given back, and where it ends.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{
    QueryableByName,
    sql_types::{Jsonb, Nullable, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use harness::{Answer, Api, Member, Socket, World, eventually, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use shared::{
    limits::Limits,
    models::{Ending, Failure, Finish, Job, Quota},
};
use std::collections::BTreeSet;
use tokio::join;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Told {
    #[diesel(sql_type = Jsonb)]
    told: Value,
}

/// An API that takes requests as fast as they come, and answers questions with the local model.
async fn api(world: &World) -> Api {
    let settings = [("ATELIER_RATE_LIMITS", "off"), ("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")];
    world.api_with(&settings).await
}

async fn set_limits(world: &World, limits: Value) {
    diesel::sql_query("UPDATE organizations SET custom_limits = $1")
        .bind::<Nullable<Jsonb>, _>(Some(limits))
        .execute(&mut world.conn().await)
        .await
        .unwrap();
}

/// Requests that count today, this week and this month for the user, and this month for the organization.
async fn used(world: &World, member: &Member) -> [i64; 4] {
    let limits = Limits::read(&mut shared::config::Reader::new(std::iter::empty::<(String, String)>()));
    let quota = Quota::get(&mut *world.conn().await, &limits, member.id(), member.organization_id()).await.unwrap();
    [quota.daily.used, quota.weekly.used, quota.monthly.used, quota.organization.used]
}

/// Jobs that no worker of the test was to do, mails among them.
async fn discard_jobs(world: &World) {
    world.run_sql("DELETE FROM jobs").await;
}

/// The path that runs a pipeline of one node.
async fn run_path(member: &Member) -> String {
    let node = json!({ "id": "in", "type": "input", "config": { "default": "x" } });
    let made = member.client.post("/pipelines", json!({ "name": "Small", "nodes": [node] })).await.expect(201);
    format!("/pipelines/{}/run", made["id"].as_str().unwrap())
}

fn inputs() -> Value {
    json!({ "inputs": { "in": "x" } })
}

/// Ends a job that waits, as a worker does.
async fn end(world: &World, id: Uuid, ending: Ending) -> bool {
    let job = Job::claim(&mut *world.conn().await, &[id], "the test", 5).await.unwrap().pop().unwrap();
    finish(world, &job, ending).await
}

async fn finish(world: &World, job: &Job, ending: Ending) -> bool {
    let finish = Finish { id: job.id, kind: job.kind, attempt: job.attempt, ending };
    !Job::finish(&mut *world.conn().await, &[finish]).await.unwrap().events.is_empty()
}

fn failed(code: &str) -> Ending {
    Ending::Failed(Failure { code: code.to_owned(), message: "It did not work.".to_owned() }, None)
}

fn id_of(answer: &Value, field: &str) -> Uuid {
    answer[field].as_str().unwrap().parse().unwrap()
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_requests_at_once_as_many_are_accepted_as_the_quota_has() {
    let world = World::new().await;
    let apis = [api(&world).await, api(&world).await];
    let member = world.member(&apis[0]).await;
    let path = run_path(&member).await;
    let clients = apis.each_ref().map(|api| world.client(api).with_token(member.client.token()));
    let answers = join_all((0..200).map(|n| clients[n % 2].post(&path, inputs()))).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 50);
    for answer in answers.into_iter().filter(|answer| answer.status != 202) {
        assert!((1..=86_400).contains(&retry_after(&answer)), "until midnight");
        assert_eq!(answer.body["error"]["retry_after"], json!(retry_after(&answer)));
        assert!(answer.text.contains("The daily quota is used up: 50 requests"), "{}", answer.text);
        assert_eq!(answer.error(429), "QUOTA_EXCEEDED");
    }
    assert_eq!(used(&world, &member).await, [50; 4]);
    assert_eq!(world.count_rows("jobs WHERE kind = 'pipeline_run'").await, 50);
    assert_eq!(world.count_rows("quota_reservations").await, 50);
    assert_eq!(world.count_rows("quota_windows WHERE period = 'daily' AND warned = 100").await, 1);
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning'").await, 3, "at 80, 90 and 100 per cent");
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_through_our_fault_is_taken_back_once() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let path = run_path(&member).await;
    let run = async || id_of(&member.client.post(&path, inputs()).await.expect(202), "execution_id");
    let mut expected = 0;
    for (ending, counts) in [
        (Ending::Completed(json!({})), true),
        (failed("node_failed"), true),
        (failed("node_timeout"), true),
        (failed("pipeline_invalid"), true),
        (failed("budget_exceeded"), true),
        (Ending::Cancelled, true),
        (failed("panic"), false),
        (failed("timeout"), false),
        (failed("storage_unavailable"), false),
        (failed("ai_service_error"), false),
        (failed("database_error"), false),
    ] {
        let what = format!("{ending:?}");
        let id = run().await;
        assert_eq!(used(&world, &member).await, [expected + 1; 4], "it counts while it runs");
        assert!(end(&world, id, ending).await);
        expected += i64::from(counts);
        assert_eq!(used(&world, &member).await, [expected; 4], "{what}");
    }
    assert_eq!(world.count_rows("quota_reservations").await, 0);

    // an attempt that has lost its job takes nothing back, nor does anybody take back twice
    let id = run().await;
    let job = Job::claim(&mut *world.conn().await, &[id], "the test", 5).await.unwrap().pop().unwrap();
    let late = Job { attempt: job.attempt - 1, ..job.clone() };
    assert!(!finish(&world, &late, failed("panic")).await);
    assert_eq!(used(&world, &member).await, [expected + 1; 4]);
    assert!(finish(&world, &job, failed("panic")).await);
    assert!(!finish(&world, &job, failed("panic")).await);
    Quota::give_back(&mut *world.conn().await, id).await.unwrap();
    assert_eq!(used(&world, &member).await, [expected; 4]);

    // cancelled before anybody began
    let id = run().await;
    member.client.post(&format!("/executions/{id}/cancel"), json!({})).await.expect(200);
    assert_eq!(used(&world, &member).await, [expected + 1; 4]);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_left_behind_is_taken_back_and_a_window_that_is_gone_is_no_problem() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let path = run_path(&member).await;
    for windows_gone in [false, true] {
        let id = id_of(&member.client.post(&path, inputs()).await.expect(202), "execution_id");
        Job::claim(&mut *world.conn().await, &[id], "the test", 1).await.unwrap();
        world.run_sql(&format!("UPDATE jobs SET heartbeat_at = now() - interval '1 hour' WHERE id = '{id}'")).await;
        if windows_gone {
            world.run_sql("DELETE FROM quota_windows").await;
        }
        Job::rescue(&mut *world.conn().await, std::time::Duration::from_secs(15), 10).await.unwrap();
        assert_eq!(world.job(id).await.error_code.as_deref(), Some("worker_died"));
        assert_eq!(used(&world, &member).await, [0; 4]);
    }
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_counts_if_it_was_answered() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }] });
    let (answer, ()) = join!(member.client.post("/ai/chat", chat.clone()), async {
        world.question().await.answer("Hello.").await;
    });
    answer.expect(200);
    assert_eq!(used(&world, &member).await, [1; 4]);
    for (code, status) in [("llm_timeout", 502), ("llm_bad_request", 400), ("budget_exceeded", 429)] {
        let (answer, ()) = join!(member.client.post("/ai/chat", chat.clone()), async {
            world.question().await.fail(code, "No.").await;
        });
        answer.error(status);
        assert_eq!(used(&world, &member).await, [1; 4], "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metered_route_counts_one_and_only_what_it_accepts() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let mut expected = 0;
    let mut counted = async |what: &str, n: i64| {
        expected += n;
        assert_eq!(used(&world, &member).await, [expected; 4], "{what}");
    };
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }], "model": "gpt-4" });
    let generate = json!({ "prompt": "Once", "model": "gpt-4" });
    let say = json!({ "message": "Hello?", "model": "gpt-4" });
    for (path, body) in [("/ai/chat", &chat), ("/ai/generate", &generate), ("/chat", &say)] {
        let (answer, ()) = join!(client.post(path, body.clone()), async {
            world.question().await.answer("Hello.").await;
        });
        answer.expect(200);
        counted(path, 1).await;
        client.post(path, json!({})).await.error(400);
        counted("nonsense", 0).await;
    }
    let mut socket = Socket::enter(client, "/ws").await;
    socket.send(json!({ "type": "chat", "data": say })).await;
    world.question().await.answer("Hello.").await;
    assert_eq!(socket.frame().await["type"], "chat_response");
    socket.send(json!({ "type": "chat", "data": {} })).await;
    assert_eq!(socket.frame().await["type"], "error");
    counted("/ws", 1).await;
    let mut socket = Socket::enter(client, "/api/v1/ai/stream").await;
    socket.send(chat).await;
    world.question().await.answer("Hello.").await;
    while socket.frame().await["type"] != "done" {}
    counted("/ai/stream", 1).await;

    let path = run_path(&member).await;
    client.post(&path, inputs()).await.expect(202);
    counted("run", 1).await;
    client.post(&path, json!({ "inputs": { "nowhere": 1 } })).await.error(400);
    counted("a run that cannot begin", 0).await;

    let product = member.product("Mug").await;
    let photo = project_root().join("tests/images/rocket.jpg");
    let image = member.uploaded_image(&product, &photo, "image/jpeg").await;
    counted("announcing", 0).await;
    let confirm = json!({ "image_id": image });
    let confirmed = client.post("/uploads/confirm", confirm.clone()).await.expect(200);
    counted("confirm", 1).await;
    assert_eq!(client.post("/uploads/confirm", confirm).await.expect(200), confirmed);
    counted("confirming again", 0).await;
    client.post(&format!("/analysis/{image}/retry"), json!({})).await.error(409);
    counted("what is being analysed", 0).await;
    client.post(&format!("/jobs/{}/cancel", confirmed["job_id"].as_str().unwrap()), json!({})).await.expect(200);
    counted("cancelling", 0).await;
    client.post(&format!("/analysis/{image}/retry"), json!({})).await.expect(200);
    counted("retry", 1).await;
    client.post("/batch", json!({ "product_id": product, "image_ids": [image] })).await.expect(201);
    counted("batch", 1).await;
    client.post("/batch", json!({ "product_id": product, "image_ids": [Uuid::nil()] })).await.error(422);
    counted("a batch of nothing", 0).await;
    direct(&member, &product, &photo).await.expect(200);
    counted("direct", 1).await;
    direct(&member, &Uuid::nil().to_string(), &photo).await.error(404);
    counted("for nothing", 0).await;
    discard_jobs(&world).await;
}

async fn direct(member: &Member, product: &str, photo: &std::path::Path) -> Answer {
    let file = Part::bytes(std::fs::read(photo).unwrap()).file_name("mug.jpg").mime_str("image/jpeg").unwrap();
    let form = Form::new().text("product_id", product.to_owned()).part("file", file);
    let request = member.client.request(Method::POST, "/api/v1/uploads/direct").multipart(form);
    member.client.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_quota_every_metered_route_refuses_and_leaves_nothing_behind() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let path = run_path(&member).await;
    let product = member.product("Mug").await;
    let photo = project_root().join("tests/images/rocket.jpg");
    let image = member.uploaded_image(&product, &photo, "image/jpeg").await;
    let (settled, job) = member.analysed_image(&product, &photo, "image/jpeg").await;
    client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    set_limits(&world, json!({ "daily": 0 })).await;
    let jobs = world.count_rows("jobs").await;
    let images = world.count_rows("product_images").await;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }], "model": "gpt-4" });
    for (path, body) in [
        ("/ai/chat", chat.clone()),
        ("/ai/generate", json!({ "prompt": "Once", "model": "gpt-4" })),
        ("/chat", json!({ "message": "Hello?", "model": "gpt-4" })),
        (&path, inputs()),
        ("/uploads/confirm", json!({ "image_id": image })),
        (&format!("/analysis/{settled}/retry"), json!({})),
        ("/batch", json!({ "product_id": product, "image_ids": [settled] })),
    ] {
        assert_eq!(client.post(path, body).await.error(429), "QUOTA_EXCEEDED", "{path}");
    }
    assert_eq!(direct(&member, &product, &photo).await.error(429), "QUOTA_EXCEEDED");
    let mut socket = Socket::enter(client, "/ws").await;
    socket.send(json!({ "type": "chat", "data": { "message": "Hello?", "model": "gpt-4" } })).await;
    assert_eq!(socket.frame().await["data"]["code"], "QUOTA_EXCEEDED");
    let mut socket = Socket::enter(client, "/api/v1/ai/stream").await;
    socket.send(chat).await;
    assert_eq!(socket.frame().await["error"]["code"], "QUOTA_EXCEEDED");
    assert_eq!(world.count_rows("jobs").await, jobs);
    assert_eq!(world.count_rows("product_images").await, images);
    assert_eq!(used(&world, &member).await, [1; 4]);
    client.get("/executions").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_the_quota_of_their_organization() {
    let world = World::new().await;
    let api = api(&world).await;
    let admin = world.member(&api).await;
    let colleague = world.colleague(&api, &admin, "member").await;
    set_limits(&world, json!({ "api_quota_limit": 5 })).await;
    let path = run_path(&admin).await;
    let both = [&admin.client, &colleague.client];
    let answers = join_all((0..20).map(|n| both[n % 2].post(&path, inputs()))).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 5);
    let refused = answers.into_iter().find(|answer| answer.status != 202).unwrap();
    assert!(refused.text.contains("The monthly quota of the organization is used up: 5 requests"), "{}", refused.text);
    assert!((1..=31 * 86_400).contains(&retry_after(&refused)));
    refused.error(429);
    let [of_admin, .., of_both] = used(&world, &admin).await;
    let shown = colleague.client.get("/users/me").await.expect(200)["quota"]["daily"]["used"].as_i64().unwrap();
    assert_eq!((of_admin + shown, of_both), (5, 5), "what was refused is not counted for anybody");
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_quota_is_shown_with_the_figures_of_tier_and_operator() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let path = run_path(&member).await;
    member.client.post(&path, inputs()).await.expect(202);
    let quota = async || {
        let quota = member.client.get("/ai/usage").await.expect(200)["quota"].clone();
        assert_eq!(member.client.get("/users/me").await.expect(200)["quota"], quota);
        quota
    };
    let window = |limit: Value| json!({ "used": 1, "limit": limit });
    assert_eq!(
        quota().await,
        json!({ "daily": window(json!(50)), "weekly": window(json!(350)), "monthly": window(json!(1500)) })
    );
    world.run_sql("UPDATE organizations SET subscription_tier = 'enterprise'").await;
    let open = json!({ "daily": window(Value::Null), "weekly": window(Value::Null), "monthly": window(Value::Null) });
    assert_eq!(quota().await, open);
    set_limits(&world, json!({ "weekly": 1 })).await;
    assert_eq!(quota().await["weekly"], window(json!(1)));
    let refused = member.client.post(&path, inputs()).await;
    assert!(refused.text.contains("The weekly quota is used up: 1 requests"), "{}", refused.text);
    assert!((1..=7 * 86_400).contains(&retry_after(&refused)));
    refused.error(429);
    set_limits(&world, json!({ "weekly": null })).await;
    member.client.post(&path, inputs()).await.expect(202);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_goes_out_once_for_each_window_and_threshold() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let path = run_path(&member).await;
    diesel::sql_query(
        "INSERT INTO webhooks (id, user_id, organization_id, name, url, events, secret) \
         VALUES (gen_random_uuid(), $1, $2, 'Mine', 'https://example.com/', '{quota.warning}', 'whsec_eA==')",
    )
    .bind::<SqlUuid, _>(member.id())
    .bind::<SqlUuid, _>(member.organization_id())
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    set_limits(&world, json!({ "daily": 10, "weekly": 12 })).await;
    let run = async || id_of(&member.client.post(&path, inputs()).await.expect(202), "execution_id");
    for _ in 0..7 {
        run().await;
    }
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning'").await, 0);
    let eighth = run().await;
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning'").await, 1);
    // below the threshold and above it again: nothing new is told
    end(&world, eighth, failed("panic")).await;
    run().await;
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning'").await, 1);
    run().await;
    run().await;
    let told: Vec<Told> = diesel::sql_query(
        "SELECT body::jsonb AS told FROM webhook_deliveries WHERE event = 'quota.warning' ORDER BY number",
    )
    .load(&mut world.conn().await)
    .await
    .unwrap();
    let told: BTreeSet<_> = told
        .iter()
        .map(|told| {
            let data = &told.told["data"];
            assert_eq!(data["user_id"], json!(member.id()));
            assert!(data["timestamp"].as_str().unwrap().ends_with('Z'));
            let number = |field: &str| data[field].as_i64().unwrap();
            (data["quota_type"].as_str().unwrap(), number("percentage"), number("used"), number("limit"))
        })
        .collect();
    let expected = [("daily", 80, 8, 10), ("daily", 90, 9, 10), ("daily", 100, 10, 10), ("weekly", 80, 10, 12)];
    assert_eq!(told, BTreeSet::from(expected));
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning' AND notice").await, 4);
    assert_eq!(world.count_rows("webhook_deliveries WHERE event = 'quota.warning'").await, 4);

    // who wants no mail gets none
    let wish = json!({ "preferences": { "notifications": { "email": false } } });
    member.client.put("/users/me", wish).await.expect(200);
    set_limits(&world, json!({ "daily": 11, "weekly": 12 })).await;
    run().await;
    assert_eq!(world.count_rows("webhook_deliveries WHERE event = 'quota.warning'").await, 5, "90 % of the week");
    assert_eq!(world.count_rows("mails WHERE template = 'quota_warning'").await, 4);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_past_the_quota_is_a_failed_run_that_says_so() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    set_limits(&world, json!({ "daily": 1 })).await;
    let path = run_path(&member).await;
    let schedules = path.replace("/run", "/schedules");
    let body = json!({ "cron": "0 0 1 1 *", "inputs": { "in": "x" } });
    let made = [
        member.client.post(&schedules, body.clone()).await.expect(201),
        member.client.post(&schedules, body).await.expect(201),
    ];
    world.run_sql("UPDATE pipeline_schedules SET next_run_at = date_trunc('second', now())").await;
    let scheduler = world.scheduler().await;
    let runs = eventually("both ticks to be dealt with", async || {
        let list = member.client.get("/executions").await.expect(200);
        (list["pagination"]["total"] == 2).then_some(list)
    })
    .await;
    scheduler.stop().await;
    let statuses: BTreeSet<_> =
        runs["data"].as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, BTreeSet::from(["failed", "queued"]));
    let failed = runs["data"].as_array().unwrap().iter().find(|run| run["status"] == "failed").unwrap();
    let shown = member.client.get(&format!("/executions/{}", failed["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(shown["error"]["code"], "QUOTA_EXCEEDED");
    assert!(shown["error"]["message"].as_str().unwrap().contains("The daily quota is used up"), "{shown}");
    for schedule in made {
        let shown = member.client.get(&format!("{schedules}/{}", schedule["id"].as_str().unwrap())).await.expect(200);
        assert!(shown["next_run_at"].as_str() > shown["last_run_at"].as_str(), "it goes on at its next tick");
    }
    assert_eq!(used(&world, &member).await, [1; 4]);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_the_past_are_forgotten() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    member.client.post(&run_path(&member).await, inputs()).await.expect(202);
    for days in [61, 63, 400] {
        world
            .run_sql(&format!(
                "INSERT INTO quota_windows (scope, period, starts) \
                 VALUES ('{}', 'daily', (now() AT TIME ZONE 'UTC')::date - {days})",
                member.id()
            ))
            .await;
    }
    world
        .run_sql(
            "INSERT INTO idempotency_keys (user_id, route, hash, owner, created_at) \
         VALUES (gen_random_uuid(), '', '', gen_random_uuid(), now() - interval '25 hours'), \
                (gen_random_uuid(), '', '', gen_random_uuid(), now() - interval '23 hours')",
        )
        .await;
    let scheduler = world.scheduler().await;
    eventually("the old to be deleted", async || {
        let left = (world.count_rows("quota_windows").await, world.count_rows("idempotency_keys").await);
        (left == (5, 1)).then_some(())
    })
    .await;
    assert_eq!(used(&world, &member).await, [1; 4]);
    scheduler.stop().await;
    assert_eq!(world.count_rows("jobs").await, 1);
    discard_jobs(&world).await;
}
