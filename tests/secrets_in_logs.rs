//! No secret is ever in a log, however much is logged.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Jsonb, Text};
use diesel_async::RunQueryDsl;
use harness::{Client, Process, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use standalone::services::MailSink;
use std::{
    net::{SocketAddr, TcpListener},
    time::{SystemTime, UNIX_EPOCH},
};
use totp_rs::{Builder, Secret};

/// Where a process says that its API listens.
async fn address(process: &Process) -> SocketAddr {
    eventually("the API to listen", async || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("the API listens"))?;
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str()?.parse().ok()
    })
    .await
}

#[derive(diesel::QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    template: String,
    #[diesel(sql_type = Jsonb)]
    payload: Value,
}

async fn mails(world: &World) -> Vec<Stored> {
    let query = "SELECT m.template, j.payload FROM mails m JOIN jobs j USING (id) ORDER BY id";
    diesel::sql_query(query).load(&mut world.conn().await).await.unwrap()
}

/// What was said that nobody else is to know.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) -> String {
        assert!(secret.len() >= 6, "{what}: {secret:?} is too short to be looked for");
        self.0.push((what.to_owned(), secret.to_owned()));
        secret.to_owned()
    }

    fn of(&mut self, answer: &Value, fields: &[&str]) {
        for field in fields {
            self.add(field, answer[field].as_str().unwrap());
        }
    }

    /// The secrets that a log has in it: as they are, as the numbers of their bytes, or escaped for an address.
    fn found_in(&self, log: &str) -> Vec<String> {
        let numbers = |secret: &str| secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        self.0
            .iter()
            .filter(|(_, secret)| log.contains(secret.as_str()) || log.contains(&numbers(secret)))
            .map(|(what, _)| what.clone())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_logs_even_if_everything_is_logged() {
    let world = World::new().await;
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = MailSink::start(None, listener(), listener()).unwrap();
    let smtp = sink.smtp_url();
    let settings = [
        ("ATELIER_LOG", "debug"),
        ("ATELIER_LOG_FORMAT", "json"),
        ("ATELIER_RATE_LIMITS", "off"),
        ("ATELIER_SMTP_URL", smtp.as_str()),
        ("ATELIER_POOL", "mails"),
    ];
    let api = world.process(&["api"], &settings[..3]);
    let client = Client::new(address(&api).await);
    let mut secrets = Secrets::default();
    secrets.add("the signing secret", "a secret of the tests, long enough for HS256");

    // register, log in, refresh, mistakes
    let password = secrets.add("password", "correct horse 1");
    let email = "ada@example.com";
    let idempotency_key = secrets.add("idempotency key", "only-once-7f3a9c");
    let body = json!({ "email": email, "password": password });
    let request = client.request(Method::POST, "/api/v1/auth/register").json(&body);
    let registered = client.send(request.header("idempotency-key", idempotency_key)).await.expect(201);
    secrets.of(&registered, &["access_token", "refresh_token"]);
    let wrong = secrets.add("mistyped password", "incorrect horse 1");
    client.post("/auth/login", json!({ "email": email, "password": wrong })).await.error(401);
    client.post("/auth/register", json!({ "email": email, "password": password })).await.error(409);
    let logged_in = client.post("/auth/login", json!({ "email": email, "password": password })).await.expect(200);
    secrets.of(&logged_in, &["access_token", "refresh_token"]);
    let refresh = json!({ "refresh_token": logged_in["refresh_token"] });
    let refreshed = client.post("/auth/refresh", refresh.clone()).await.expect(200);
    secrets.of(&refreshed, &["access_token", "refresh_token"]);
    let member = client.with_token(refreshed["access_token"].as_str().unwrap());
    let forged = secrets.add("forged token", &format!("{}x", member.token()));
    client.with_token(&forged).get("/users/me").await.error(401);

    // keys, in headers and by mistake in a query
    let key = json!({ "name": "Script", "permissions": ["*"] });
    let key = member.post("/api-keys", key).await.expect(201);
    secrets.of(&key, &["key"]);
    let with_key = |path: &str| client.request(Method::GET, path).header("x-api-key", key["key"].as_str().unwrap());
    client.send(with_key("/api/v1/products")).await.expect(200);
    client.send(with_key("/api/v1/api-keys")).await.error(403);
    let by_query = format!("/api/v1/products?token={}", key["key"].as_str().unwrap());
    client.send(client.request(Method::GET, &by_query)).await.error(401);
    let (_, code) = member.follow("00000000-0000-0000-0000-000000000000", "").await;
    assert_eq!(code, 4003);

    // the second factor
    let set_up = member.post("/auth/mfa/setup", json!({})).await.expect(200);
    secrets.of(&set_up, &["secret"]);
    let secret = Secret::try_from_base32(set_up["secret"].as_str().unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let code = Builder::new().with_secret(secret).build().unwrap().generate(now).to_string();
    let enabled = member.post("/auth/mfa/enable", json!({ "code": code })).await.expect(200);
    let codes = enabled["recovery_codes"].as_array().unwrap();
    for code in codes {
        secrets.add("recovery code", code.as_str().unwrap());
    }
    let login = json!({ "email": email, "password": password, "mfa_code": codes[0] });
    let logged_in = client.post("/auth/login", login.clone()).await.expect(200);
    secrets.of(&logged_in, &["access_token", "refresh_token"]);
    client.post("/auth/login", login).await.error(401);

    // webhooks
    let webhook = json!({ "name": "Hook", "url": "https://example.com/hook", "events": ["webhook.test"] });
    let webhook = member.post("/webhooks", webhook).await;
    if webhook.status.as_u16() == 201 {
        secrets.of(&webhook.body, &["secret"]);
        let id = webhook.body["id"].as_str().unwrap();
        let rotated = member.post(&format!("/webhooks/{id}/rotate-secret"), json!({})).await.expect(200);
        secrets.of(&rotated, &["secret"]);
    }

    // a forgotten password; the mails go out
    client.post("/auth/forgot-password", json!({ "email": email })).await.expect(202);
    let reset = mails(&world).await.into_iter().find(|mail| mail.template == "password_reset").unwrap();
    let link = reset.payload["letter"]["reset_url"].as_str().unwrap();
    let token = secrets.add("reset token", link.split_once("token=").unwrap().1);
    client.send(client.request(Method::GET, &format!("/reset-password?token={token}"))).await;
    let worker = world.process(&["worker"], &settings);
    eventually("the mails to be sent or given up", async || {
        let query = "SELECT status AS template, payload FROM jobs WHERE kind = 'mail' AND status = 'queued'";
        let waiting: Vec<Stored> = diesel::sql_query(query).load(&mut world.conn().await).await.unwrap();
        waiting.is_empty().then_some(())
    })
    .await;
    let new_password = secrets.add("new password", "another horse 2");
    let reset = json!({ "token": token, "new_password": new_password });
    client.post("/auth/reset-password", reset.clone()).await.expect(200);
    client.post("/auth/reset-password", reset).await.error(400);

    for (name, mut process) in [("api", api), ("worker", worker)] {
        process.terminate();
        let log = process.log();
        assert!(log.contains("DEBUG"), "{name} does not log enough for this test");
        let found = secrets.found_in(&log);
        assert!(found.is_empty(), "in the log of {name}: {found:?}");
    }
}
