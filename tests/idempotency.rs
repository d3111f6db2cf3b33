//! `Idempotency-Key`: a repeated request is answered again, and its work is done once.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{
    QueryableByName,
    sql_types::{Binary, Nullable, Text},
};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::join_all;
use harness::{Answer, Api, Client, Member, World, eventually, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::join;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    route: String,
    #[diesel(sql_type = Binary)]
    hash: Vec<u8>,
    #[diesel(sql_type = Nullable<Binary>)]
    answer: Option<Vec<u8>>,
}

async fn rows(world: &World) -> Vec<Row> {
    diesel::sql_query("SELECT status, route, hash, answer FROM idempotency_keys ORDER BY created_at")
        .load(&mut world.conn().await)
        .await
        .unwrap()
}

/// An API that takes requests as fast as they come, and answers questions with the local model.
async fn api(world: &World) -> Api {
    world.api_with(&settings()).await
}

fn settings() -> [(&'static str, &'static str); 2] {
    [("ATELIER_RATE_LIMITS", "off"), ("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")]
}

fn keyed(client: &Client, path: &str, key: &str) -> reqwest::RequestBuilder {
    client.request(Method::POST, &format!("/api/v1{path}")).header("Idempotency-Key", key)
}

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    client.send(keyed(client, path, key).json(body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Both are the first answer, and the second says that it is not the first.
fn assert_repeated(first: &Answer, second: &Answer) {
    assert!(!is_replayed(first) && is_replayed(second), "{} {}", first.text, second.text);
    assert_eq!((first.status, &first.text), (second.status, &second.text));
    for header in ["content-type", "location", "etag"] {
        assert_eq!(first.headers.get(header), second.headers.get(header), "{header}");
    }
}

async fn discard_jobs(world: &World) {
    world.run_sql("DELETE FROM jobs").await;
}

async fn pipeline(member: &Member) -> String {
    let node = json!({ "id": "in", "type": "input", "config": { "default": "x" } });
    let made = member.client.post("/pipelines", json!({ "name": "Small", "nodes": [node] })).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

/// Lets the clock stand so that the keys were claimed some time ago.
async fn age_claims(world: &World, interval: &str) {
    world.run_sql(&format!("UPDATE idempotency_keys SET claimed_at = claimed_at - interval '{interval}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_with_one_key_are_one_request() {
    let world = World::new().await;
    let apis = [api(&world).await, api(&world).await];
    let member = world.member(&apis[0]).await;
    let path = format!("/pipelines/{}/run", pipeline(&member).await);
    let clients = apis.each_ref().map(|api| world.client(api).with_token(member.client.token()));
    let body = json!({ "inputs": { "in": "x" } });
    let answers = join_all((0..100).map(|n| post(&clients[n % 2], &path, "once", &body))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    let texts: BTreeSet<_> = accepted.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(accepted.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    for answer in refused {
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.error(409), "CONFLICT");
    }
    assert_eq!(world.count_rows("jobs").await, 1);
    assert_eq!(world.count_rows("quota_reservations").await, 1);
    let later = post(&clients[1], &path, "once", &body).await;
    assert!(is_replayed(&later) && texts.contains(later.text.as_str()));
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_belongs_to_one_user_one_path_and_one_body() {
    let world = World::new().await;
    let api = api(&world).await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let mug = json!({ "title": "Mug" });
    let first = post(&member.client, "/products", "k", &mug).await;
    assert_repeated(&first, &post(&member.client, "/products", "k", &mug).await);
    let altered = post(&member.client, "/products", "k", &json!({ "title": "Cup" })).await;
    assert_eq!(altered.error(422), "UNPROCESSABLE_ENTITY");
    for (client, path, key, body) in [
        (&other.client, "/products", "k", &mug),
        (&member.client, "/products", "K", &mug),
        (&member.client, "/pipelines", "k", &json!({ "name": "Mug" })),
    ] {
        let answer = post(client, path, key, body).await;
        assert!(!is_replayed(&answer) && answer.status == 201, "{path} {}", answer.text);
    }
    // another way to write the same path is the same path
    let request = member.client.request(Method::POST, "/v1/products/").header("Idempotency-Key", "k").json(&mug);
    assert_repeated(&first, &member.client.send(request).await);
    let list = member.client.get("/products").await.expect(200);
    assert_eq!(list["pagination"]["total"], 2);
    let pipelines = [pipeline(&member).await, pipeline(&member).await];
    let copies = join_all(pipelines.iter().map(|id| {
        let path = format!("/pipelines/{id}/duplicate");
        let client = &member.client;
        async move { post(client, &path, "copy", &json!({})).await.expect(201)["id"].clone() }
    }))
    .await;
    assert_ne!(copies[0], copies[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_none_are_refused_and_count_only_where_somebody_is_known() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    for key in ["", "two words", &"k".repeat(256)] {
        let answer = post(client, "/products", key, &json!({ "title": "Mug" })).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], "Idempotency-Key", "{key:?} {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR");
    }
    let twice = keyed(client, "/products", "one").header("Idempotency-Key", "two").json(&json!({ "title": "Mug" }));
    client.send(twice).await.error(400);
    assert_eq!(world.count_rows("products").await, 0);
    post(client, "/products", &"k".repeat(255), &json!({ "title": "Mug" })).await.expect(201);
    // tokens are not kept
    let login = json!({ "email": member.email, "password": member.password });
    let logins = [post(client, "/auth/login", "k", &login).await, post(client, "/auth/login", "k", &login).await];
    assert!(logins.iter().all(|answer| answer.status == 200 && !is_replayed(answer)));
    assert_ne!(logins[0].body["refresh_token"], logins[1].body["refresh_token"]);
    // nor is a key of any use with another method
    let path = format!("/api/v1/products/{}", member.product("Cup").await);
    for title in ["a", "b"] {
        let change = client.request(Method::PUT, &path).header("Idempotency-Key", "k").json(&json!({ "title": title }));
        assert_eq!(client.send(change).await.expect(200)["title"], title);
    }
    assert_eq!(world.count_rows("idempotency_keys").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_outlives_the_api_and_is_of_no_use_to_who_reads_the_table() {
    let world = World::new().await;
    let first_api = api(&world).await;
    let member = world.member(&first_api).await;
    let body = json!({ "title": "A mug nobody may know of" });
    let first = post(&member.client, "/products", "a-key-nobody-may-know", &body).await;
    first_api.running.stop().await;
    let second_api = api(&world).await;
    let client = world.client(&second_api).with_token(member.client.token());
    assert_repeated(&first, &post(&client, "/products", "a-key-nobody-may-know", &body).await);

    let row = rows(&world).await.pop().unwrap();
    assert_eq!((row.status.as_str(), row.route.as_str(), row.hash.len()), ("answered", "POST /api/v1/products", 32));
    let answer = row.answer.unwrap();
    let has = |text: &str| answer.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(!has("mug") && !has("a-key") && !has("title") && !has("content-type"), "it is sealed");

    // a server with another secret cannot open it, and does not do it again
    let secret = ("ATELIER_JWT_SECRET", "another secret of the tests, long enough as well");
    let third_api = world.api_with(&[settings()[0], settings()[1], secret]).await;
    let login = json!({ "email": member.email, "password": member.password });
    let token = world.client(&third_api).post("/auth/login", login).await.expect(200)["access_token"].clone();
    let client = world.client(&third_api).with_token(token.as_str().unwrap());
    assert_eq!(post(&client, "/products", "a-key-nobody-may-know", &body).await.error(409), "CONFLICT");
    assert_eq!(world.count_rows("products").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_given_again_and_what_may_pass_is_tried_again() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    // once refused, refused again, though it could be done by now
    let batch = json!({ "product_id": Uuid::nil(), "image_ids": [Uuid::nil()] });
    for (path, body, status) in [("/products", &json!({ "title": "" }), 400), ("/batch", &batch, 404)] {
        let first = post(client, path, "k", body).await;
        let second = post(client, path, "k", body).await;
        assert_repeated(&first, &second);
        second.error(status);
        first.error(status);
    }
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }] });
    let (answer, ()) = join!(post(client, "/ai/chat", "k", &chat), async {
        world.question().await.fail("llm_timeout", "No.").await;
    });
    answer.error(502);
    let (answer, ()) = join!(post(client, "/ai/chat", "k", &chat), async {
        world.question().await.answer("Hello.").await;
    });
    assert_repeated(&answer, &post(client, "/ai/chat", "k", &chat).await);
    answer.expect(200);

    world.run_sql("UPDATE organizations SET custom_limits = '{\"daily\": 1}'").await;
    let path = format!("/pipelines/{}/run", pipeline(&member).await);
    let body = json!({ "inputs": { "in": "x" } });
    post(client, &path, "k", &body).await.error(429);
    world.run_sql("UPDATE organizations SET custom_limits = NULL").await;
    let first = post(client, &path, "k", &body).await;
    assert_repeated(&first, &post(client, &path, "k", &body).await);
    first.expect(202);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_passed_on_as_it_comes_and_given_again_as_a_whole() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }], "stream": true });
    let (first, ()) = join!(post(client, "/ai/chat", "k", &chat), async {
        let question = world.question().await;
        question.say("Hello").await;
        question.say(" yourself.").await;
        question.answer("Hello yourself.").await;
    });
    assert!(first.text.ends_with("data: [DONE]\n\n") && first.text.contains(" yourself."), "{}", first.text);
    let second = post(client, "/ai/chat", "k", &chat).await;
    assert_repeated(&first, &second);
    assert_eq!(second.headers["content-type"], "text/event-stream");

    // one that broke off is asked for again
    let (broken, ()) = join!(post(client, "/ai/chat", "b", &chat), async {
        let question = world.question().await;
        question.say("Hello").await;
        question.fail("llm_truncated", "The provider hung up.").await;
    });
    assert!(!broken.text.contains("[DONE]"), "{}", broken.text);
    let (whole, ()) = join!(post(client, "/ai/chat", "b", &chat), async {
        world.question().await.answer("Hello.").await;
    });
    assert!(!is_replayed(&whole) && whole.text.ends_with("data: [DONE]\n\n"), "{}", whole.text);

    // and so is one whose reader went away
    let mut response = keyed(client, "/ai/chat", "gone").json(&chat).send().await.unwrap();
    let question = async {
        let question = world.question().await;
        question.say("Hello").await;
        question
    };
    let (question, chunk) = join!(question, response.chunk());
    assert!(chunk.unwrap().is_some());
    drop(response);
    question.asked_to_stop().await;
    eventually("the key to be free", async || {
        (world.count_rows("idempotency_keys WHERE status = 'committed'").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.count_rows("jobs").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tires_of_waiting_and_asks_again_gets_the_answer() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let client = &member.client;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello?" }] });
    let impatient = tokio::time::timeout(Duration::from_millis(300), post(client, "/ai/chat", "k", &chat)).await;
    assert!(impatient.is_err(), "nobody has answered");
    post(client, "/ai/chat", "k", &chat).await.error(409);
    world.question().await.answer("Hello.").await;
    let answer = eventually("the answer to be kept", async || {
        let answer = post(client, "/ai/chat", "k", &chat).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(is_replayed(&answer));
    assert_eq!(world.count_rows("jobs").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_the_same_whatever_boundary_it_is_sent_with() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let bytes = std::fs::read(project_root().join("tests/images/rocket.jpg")).unwrap();
    let send = async |bytes: Vec<u8>| {
        let file = Part::bytes(bytes).file_name("mug.jpg").mime_str("image/jpeg").unwrap();
        let form = Form::new().text("product_id", product.clone()).part("file", file);
        member.client.send(keyed(&member.client, "/uploads/direct", "k").multipart(form)).await
    };
    let first = send(bytes.clone()).await;
    assert_repeated(&first, &send(bytes.clone()).await);
    let mut altered = bytes;
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(send(altered).await.error(422), "UNPROCESSABLE_ENTITY");
    assert_eq!(world.count_rows("product_images").await, 1);
    first.expect(200);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_was_committed_by_a_process_that_died_is_never_done_again() {
    let world = World::new().await;
    let here = api(&world).await;
    let member = world.member(&here).await;
    let mut process = world.process(&["api"], &[settings()[0], settings()[1], ("ATELIER_LOG_FORMAT", "json")]);
    let there = Client::new(process.address().await).with_token(member.client.token());
    let prompt = json!({ "prompt": "Once" });
    let (died, ()) = join!(keyed(&there, "/ai/generate", "k").json(&prompt).send(), async {
        eventually("the work to be committed", async || {
            (world.count_rows("idempotency_keys WHERE status = 'committed'").await == 1).then_some(())
        })
        .await;
        process.kill();
    });
    assert!(died.is_err(), "nobody has answered");
    let again = async || post(&member.client, "/ai/generate", "k", &prompt).await;
    let busy = again().await;
    assert_eq!(busy.headers["retry-after"], "1");
    busy.error(409);
    age_claims(&world, "6 minutes").await;
    let lost = again().await;
    assert!(lost.text.contains("its answer was lost") && lost.headers.get("retry-after").is_none(), "{}", lost.text);
    lost.error(409);
    assert_eq!(world.count_rows("jobs").await, 1);
    discard_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_overtaken_undoes_its_work() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let photo = project_root().join("tests/images/rocket.jpg");
    let (image, job) = member.analysed_image(&product, &photo, "image/jpeg").await;
    member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    let batch = json!({ "product_id": product, "image_ids": [image] });
    let send = || post(&member.client, "/batch", "k", &batch);
    let waiting = async |requests: i64| {
        eventually(&format!("{requests} requests to wait for the product"), async || {
            let found = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            (world.count_rows(found).await == requests).then_some(())
        })
        .await;
    };
    let mut holder = shared::db::connect(&world.database()).await.unwrap();
    let hold = format!("BEGIN; SELECT FROM products WHERE id = '{product}' FOR UPDATE");
    holder.batch_execute(&hold).await.unwrap();
    let overtaking = async {
        waiting(1).await;
        // as if the first had been paused for long: the second takes its place
        age_claims(&world, "6 minutes").await;
        let release = async {
            waiting(2).await;
            holder.batch_execute("COMMIT").await.unwrap();
        };
        join!(send(), release).0
    };
    let (first, second) = join!(send(), overtaking);
    first.error(409);
    second.expect(201);
    assert_eq!(world.count_rows("jobs WHERE status = 'queued'").await, 1);
    assert_eq!(world.count_rows("quota_reservations").await, 1);
    discard_jobs(&world).await;
}

/// What is sent to a route that takes POST: its path and body. `None`: it needs what no test of keys can make.
struct Fixtures<'a> {
    world: &'a World,
    member: &'a Member,
}

impl Fixtures<'_> {
    async fn of(&self, route: &str) -> Option<(String, Value)> {
        let member = self.member;
        let photo = project_root().join("tests/images/rocket.jpg");
        let settled = async || {
            let product = member.product("Mug").await;
            let (image, job) = member.analysed_image(&product, &photo, "image/jpeg").await;
            member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
            (product, image)
        };
        let run = async || {
            let path = format!("/pipelines/{}/run", pipeline(member).await);
            let accepted = member.client.post(&path, json!({ "inputs": { "in": "x" } })).await.expect(202);
            accepted["execution_id"].as_str().unwrap().to_owned()
        };
        let orchestration = async || {
            let project = self.world.project(member, "Lamps", json!({})).await;
            let started = member.client.post("/orchestrate", json!({ "project_id": project })).await.expect(201);
            started["run_id"].as_str().unwrap().to_owned()
        };
        Some(match route {
            "/orchestrate" => {
                (route.to_owned(), json!({ "project_id": self.world.project(member, "Lamps", json!({})).await }))
            }
            "/orchestration/{run_id}/cancel" => (format!("/orchestration/{}/cancel", orchestration().await), json!({})),
            "/orchestration/{run_id}/retry" => {
                let id = orchestration().await;
                member.client.post(&format!("/orchestration/{id}/cancel"), json!({})).await.expect(200);
                (format!("/orchestration/{id}/retry"), json!({}))
            }
            "/products" => (route.to_owned(), json!({ "title": "Mug" })),
            "/pipelines" => (route.to_owned(), json!({ "name": "Mine" })),
            "/pipelines/{id}/duplicate" => (format!("/pipelines/{}/duplicate", pipeline(member).await), json!({})),
            "/pipelines/{id}/run" => {
                (format!("/pipelines/{}/run", pipeline(member).await), json!({ "inputs": { "in": "x" } }))
            }
            "/pipelines/{id}/schedules" => {
                let body = json!({ "cron": "0 0 1 1 *", "inputs": { "in": "x" } });
                (format!("/pipelines/{}/schedules", pipeline(member).await), body)
            }
            "/executions/{id}/cancel" => (format!("/executions/{}/cancel", run().await), json!({})),
            "/executions/{id}/retry" => {
                let id = run().await;
                member.client.post(&format!("/executions/{id}/cancel"), json!({})).await.expect(200);
                (format!("/executions/{id}/retry"), json!({}))
            }
            "/uploads/presigned-url" => {
                let body = json!({
                    "product_id": member.product("Mug").await, "filename": "mug.jpg", "content_type": "image/jpeg",
                    "file_size_bytes": 3,
                });
                (route.to_owned(), body)
            }
            "/uploads/confirm" => {
                let image = member.uploaded_image(&member.product("Mug").await, &photo, "image/jpeg").await;
                (route.to_owned(), json!({ "image_id": image }))
            }
            "/batch" => {
                let (product, image) = settled().await;
                (route.to_owned(), json!({ "product_id": product, "image_ids": [image] }))
            }
            "/analysis/{image_id}/retry" => (format!("/analysis/{}/retry", settled().await.1), json!({})),
            "/jobs/{job_id}/cancel" => {
                let (_, job) = member.analysed_image(&member.product("Mug").await, &photo, "image/jpeg").await;
                (format!("/jobs/{job}/cancel"), json!({}))
            }
            "/api-keys" => (route.to_owned(), json!({ "name": "Mine", "permissions": ["ai:read"] })),
            "/webhooks" => {
                let body = json!({ "name": "Mine", "url": "https://example.com/hook", "events": ["job.completed"] });
                (route.to_owned(), body)
            }
            "/organizations" => (route.to_owned(), json!({ "name": "Another one" })),
            "/organizations/current/invitations" => {
                (route.to_owned(), json!({ "email": "guest@example.com", "role": "member" }))
            }
            _ => return None,
        })
    }

    /// How many rows each table of a user's things has.
    async fn things(&self) -> BTreeMap<&'static str, i64> {
        let mut things = BTreeMap::new();
        for table in [
            "products",
            "pipelines",
            "pipeline_schedules",
            "product_images",
            "jobs",
            "executions",
            "orchestrations",
            "orchestration_days",
            "job_events",
            "api_keys",
            "webhooks",
            "organizations",
            "memberships",
            "invitations",
            "audit_entries",
            "mails",
            "quota_reservations",
        ] {
            things.insert(table, self.world.count_rows(table).await);
        }
        things
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_post_that_can_be_repeated_has_one_effect_and_one_answer() {
    let world = World::new().await;
    let api = api(&world).await;
    let member = world.member(&api).await;
    let fixtures = Fixtures { world: &world, member: &member };
    world
        .run_sql(
            "CREATE TABLE turns (status text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO turns VALUES (NEW.status); RETURN NEW; END'; \
         CREATE TRIGGER note AFTER UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    let document = member.client.send(member.client.request(Method::GET, "/openapi.json")).await.expect(200);
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post_of) = item.get("post").filter(|operation| operation.get("security").is_some()) else { continue };
        let named = |parameter: &Value| parameter["name"] == "Idempotency-Key" && parameter["in"] == "header";
        assert!(post_of["parameters"].as_array().unwrap().iter().any(named), "{path} does not tell of keys");
        let route = path.strip_prefix("/api/v1").unwrap();
        let Some((path, body)) = fixtures.of(route).await else { continue };
        seen.insert(route);
        let before = fixtures.things().await;
        let first = post(&member.client, &path, "walk", &body).await;
        let between = fixtures.things().await;
        assert!(first.status.is_success(), "{route} {}", first.text);
        assert_ne!(before, between, "{route} does nothing");
        assert_repeated(&first, &post(&member.client, &path, "walk", &body).await);
        assert_eq!(between, fixtures.things().await, "{route} was done twice");
        assert_eq!(rows(&world).await.pop().unwrap().status, "answered", "{route}");
        assert_eq!(
            world.count_rows("turns WHERE status = 'committed'").await,
            1,
            "{route} does its work outside of `once`"
        );
        world.run_sql("DELETE FROM turns").await;
    }
    assert!(seen.len() >= 12, "{seen:?}");
    discard_jobs(&world).await;
}
