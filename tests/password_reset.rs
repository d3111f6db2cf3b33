//! Forgotten passwords.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use harness::{Answer, Client, Member, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(diesel::QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

async fn words(world: &World, query: &str) -> Vec<String> {
    let rows: Vec<Word> = diesel::sql_query(query).load(&mut world.conn().await).await.unwrap();
    rows.into_iter().map(|row| row.word).collect()
}

/// The links that were mailed, oldest first.
async fn links(world: &World) -> Vec<String> {
    let query = "SELECT j.payload -> 'letter' ->> 'reset_url' AS word FROM mails m JOIN jobs j USING (id) \
                 WHERE m.template = 'password_reset' ORDER BY id";
    words(world, query).await
}

fn token(link: &str) -> &str {
    link.split_once("/reset-password?token=").unwrap().1
}

async fn forget(client: &Client, email: &str) -> Value {
    client.anonymous().post("/auth/forgot-password", json!({ "email": email })).await.expect(202)
}

async fn reset(client: &Client, token: &str, password: &str) -> Answer {
    client.anonymous().post("/auth/reset-password", json!({ "token": token, "new_password": password })).await
}

fn assert_bad_token(answer: Answer) {
    assert_eq!(answer.body["error"]["details"][0]["field"], "token", "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_a_mail_gives_another_password_and_ends_every_login_but_no_key() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_PUBLIC_URL", "https://atelier.example/")]).await;
    let member = world.member(&api).await;
    let key = json!({ "name": "Script", "permissions": ["*"] });
    let key = member.client.post("/api-keys", key).await.expect(201)["key"].as_str().unwrap().to_owned();
    forget(&member.client, &member.email.to_uppercase()).await;
    let link = links(&world).await.pop().unwrap();
    assert!(link.starts_with("https://atelier.example/reset-password?token="), "{link}");
    let token = token(&link);
    let stored = words(&world, "SELECT p::text AS word FROM password_resets p").await;
    assert!(stored.iter().all(|row| !row.contains(token)));

    for weak in ["short1", "onlyletters", member.email.as_str()] {
        let refused = reset(&member.client, token, weak).await;
        assert_eq!(refused.body["error"]["details"][0]["field"], "new_password");
        assert_eq!(refused.error(400), "VALIDATION_ERROR", "{weak}");
    }
    reset(&member.client, token, "another horse 2").await.expect(200);
    assert_eq!(member.client.get("/users/me").await.error(401), "AUTHENTICATION_REQUIRED");
    let refresh = json!({ "refresh_token": member.registration["refresh_token"] });
    let client = member.client.anonymous();
    assert_eq!(client.post("/auth/refresh", refresh).await.error(401), "AUTHENTICATION_REQUIRED");
    let login =
        async |password: &str| client.post("/auth/login", json!({ "email": member.email, "password": password })).await;
    assert_eq!(login(&member.password).await.error(401), "INVALID_CREDENTIALS");
    login("another horse 2").await.expect(200);
    let with_key = client.request(Method::GET, "/api/v1/users/me").header("x-api-key", key);
    client.send(with_key).await.expect(200);
    assert_bad_token(reset(&client, token, "third horse 3").await);
    let actions =
        words(&world, "SELECT action AS word FROM audit_entries WHERE target_type <> 'organization' ORDER BY id").await;
    assert_eq!(actions, ["api_key.created", "user.password_reset"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_there_is_an_account_shows_neither_in_the_answer_nor_in_its_time() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "off")]).await;
    let member = world.member(&api).await;
    let disabled = world.member(&api).await;
    world
        .conn()
        .await
        .batch_execute(&format!("UPDATE users SET is_active = false WHERE id = '{}'", disabled.id()))
        .await
        .unwrap();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let mut said = Vec::new();
    for number in 0..12 {
        for (times, email) in
            [(&mut known, member.email.clone()), (&mut unknown, format!("nobody-{number}@example.com"))]
        {
            let began = Instant::now();
            said.push(forget(&member.client, &email).await);
            times.push(began.elapsed());
        }
    }
    said.push(forget(&member.client, &disabled.email).await);
    assert!(said.iter().all(|answer| *answer == said[0]));
    let ratio = median(known).as_secs_f64() / median(unknown).as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    assert_eq!(links(&world).await.len(), 5, "nobody is flooded with mails, and only accounts get any");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_link_works_once_and_for_an_hour() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    forget(client, &member.email).await;
    forget(client, &member.email).await;
    let both = links(&world).await;
    assert_bad_token(reset(client, token(&both[0]), "another horse 2").await);
    for rubbish in ["x", "0123456789012345678901234567890123456789012"] {
        assert_bad_token(reset(client, rubbish, "another horse 2").await);
    }
    let at_once = (0..3).map(|number| reset(client, token(&both[1]), ["first 1st", "second 2nd", "third 3rd"][number]));
    let answers = futures_util::future::join_all(at_once).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400]);

    forget(client, &member.email).await;
    world.run_sql("UPDATE password_resets SET expires_at = now()").await;
    assert_bad_token(reset(client, token(&links(&world).await[2]), "fourth horse 4").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_a_change_of_password_or_address() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    forget(client, &member.email).await;
    let change = json!({ "old_password": member.password, "new_password": "another horse 2" });
    client.put("/auth/password", change).await.expect(200);
    assert_bad_token(reset(client, token(&links(&world).await[0]), "third horse 3").await);
    forget(client, &member.email).await;
    client.put("/users/me", json!({ "email": format!("new-{}", member.email) })).await.expect(200);
    assert_bad_token(reset(client, token(&links(&world).await[1]), "third horse 3").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_to_a_page_of_ours_whatever_the_request_says_and_the_page_repeats_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let member: Member = world.member(&api).await;
    let request = member.client.anonymous().request(Method::POST, "/api/v1/auth/forgot-password");
    let request = request.header("host", "evil.example").header("x-forwarded-host", "evil.example");
    member.client.send(request.json(&json!({ "email": member.email }))).await.expect(202);
    let link = links(&world).await.pop().unwrap();
    let path = link.strip_prefix(&format!("http://{}", api.address)).unwrap();
    let page = member.client.send(member.client.anonymous().request(Method::GET, path)).await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(page.text.contains("/api/v1/auth/reset-password") && !page.text.contains(token(&link)), "{}", page.text);
    assert!(!page.text.contains("<script") && !page.text.contains("<form"));
}
