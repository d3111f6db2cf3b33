//! The second factor of a login.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Jsonb, Text};
use diesel_async::RunQueryDsl;
use harness::{Answer, Member, World};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use totp_rs::{Builder, Secret};

const STEP: u64 = 30;

/// The code that an app would show so many steps from now.
fn code(secret: &str, steps_ahead: u64) -> String {
    let secret = Secret::try_from_base32(secret).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Builder::new().with_secret(secret).build().unwrap().generate(now + steps_ahead * STEP).to_string()
}

async fn set_up(member: &Member) -> String {
    let set_up = member.client.post("/auth/mfa/setup", json!({})).await.expect(200);
    let secret = set_up["secret"].as_str().unwrap().to_owned();
    assert!(set_up["otpauth_url"].as_str().unwrap().contains(&secret));
    secret
}

/// Switches the second factor on; its secret and the recovery codes.
async fn enable(member: &Member) -> (String, Vec<String>) {
    let secret = set_up(member).await;
    let enabled = member.client.post("/auth/mfa/enable", json!({ "code": code(&secret, 0) })).await.expect(200);
    assert_eq!(enabled["mfa_enabled"], true);
    let codes = enabled["recovery_codes"].as_array().unwrap();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

async fn login(member: &Member, mfa_code: Option<&str>) -> Answer {
    let body = json!({ "email": member.email, "password": member.password, "mfa_code": mfa_code });
    member.client.anonymous().post("/auth/login", body).await
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    word: String,
    #[diesel(sql_type = Jsonb)]
    data: Value,
}

/// What was mailed: to whom, and the letter. Oldest first.
async fn letters(world: &World) -> Vec<(String, Value)> {
    let query =
        "SELECT m.recipient AS word, j.payload -> 'letter' AS data FROM mails m JOIN jobs j USING (id) ORDER BY id";
    let rows: Vec<Row> = diesel::sql_query(query).load(&mut world.conn().await).await.unwrap();
    rows.into_iter().map(|row| (row.word, row.data)).collect()
}

/// Forgets which codes were taken, so that a test need not wait for the next one.
async fn forget_codes(world: &World) {
    world.run_sql("UPDATE users SET mfa_last_step = 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_second_factor_a_login_needs_the_password_and_a_code() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let secret = set_up(&member).await;
    assert_eq!(member.client.get("/users/me").await.expect(200)["mfa_enabled"], false);
    login(&member, None).await.expect(200);
    let wrong = member.client.post("/auth/mfa/enable", json!({ "code": "000000" })).await;
    assert_eq!(wrong.body["error"]["details"][0]["field"], "code");
    assert_eq!(wrong.error(400), "VALIDATION_ERROR");
    member.client.post("/auth/mfa/enable", json!({ "code": code(&secret, 0) })).await.expect(200);
    assert_eq!(member.client.get("/users/me").await.expect(200)["mfa_enabled"], true);

    for sent in [None, Some(""), Some("000000"), Some("abcde-fghij")] {
        assert_eq!(login(&member, sent).await.error(401), "MFA_REQUIRED", "{sent:?}");
    }
    let next = code(&secret, 1);
    let guess = json!({ "email": member.email, "password": "wrong horse 1", "mfa_code": next });
    let refused = member.client.anonymous().post("/auth/login", guess).await;
    assert_eq!(refused.error(401), "INVALID_CREDENTIALS", "whoever guesses passwords learns nothing of the factor");
    login(&member, Some(&next)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once_even_if_it_comes_twice_at_once() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_API_THREADS", "2")]).await;
    let member = world.member(&api).await;
    let secret = set_up(&member).await;
    let first = code(&secret, 0);
    member.client.post("/auth/mfa/enable", json!({ "code": first })).await.expect(200);
    assert_eq!(login(&member, Some(&first)).await.error(401), "MFA_REQUIRED");
    forget_codes(&world).await;
    let now = code(&secret, 0);
    let logins = futures_util::future::join_all((0..4).map(|_| login(&member, Some(&now)))).await;
    let mut statuses: Vec<_> = logins.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_code_stands_in_once() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let (_, codes) = enable(&member).await;
    assert_eq!(codes.len(), 10);
    login(&member, Some(&codes[0])).await.expect(200);
    assert_eq!(login(&member, Some(&codes[0])).await.error(401), "MFA_REQUIRED");
    login(&member, Some(&codes[1].to_uppercase().replace('-', " "))).await.expect(200);
    enable(&other).await;
    assert_eq!(login(&other, Some(&codes[2])).await.error(401), "MFA_REQUIRED", "it is another user's");

    #[derive(diesel::QueryableByName)]
    struct Stored {
        #[diesel(sql_type = Text)]
        stored: String,
    }
    let stored: Vec<Stored> = diesel::sql_query("SELECT c::text AS stored FROM recovery_codes c")
        .load(&mut world.conn().await)
        .await
        .unwrap();
    assert_eq!(stored.len(), 20);
    assert!(stored.iter().all(|row| codes.iter().all(|code| !row.stored.contains(code.as_str()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_switched_off_with_a_code_a_recovery_code_or_the_password() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let disable = async |body: Value| member.client.post("/auth/mfa/disable", body).await;
    assert_eq!(disable(json!({ "password": member.password })).await.error(409), "CONFLICT");
    let (secret, codes) = enable(&member).await;
    assert_eq!(member.client.post("/auth/mfa/setup", json!({})).await.error(409), "CONFLICT");
    assert_eq!(member.client.post("/auth/mfa/enable", json!({ "code": "000000" })).await.error(409), "CONFLICT");
    assert_eq!(disable(json!({})).await.error(400), "VALIDATION_ERROR");
    assert_eq!(disable(json!({ "code": "000000" })).await.error(400), "VALIDATION_ERROR");
    assert_eq!(disable(json!({ "password": "wrong horse 1" })).await.error(401), "INVALID_CREDENTIALS");
    assert_eq!(disable(json!({ "code": code(&secret, 1) })).await.expect(200), json!({ "mfa_enabled": false }));
    login(&member, None).await.expect(200);

    let (_, fresh) = enable(&member).await;
    assert!(fresh.iter().all(|code| !codes.contains(code)));
    assert_eq!(disable(json!({ "code": codes[0] })).await.error(400), "VALIDATION_ERROR", "it went with the factor");
    disable(json!({ "code": fresh[0] })).await.expect(200);
    enable(&member).await;
    disable(json!({ "password": member.password })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_mailed_and_logged_without_a_secret() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (secret, codes) = enable(&member).await;
    member.client.post("/auth/mfa/disable", json!({ "password": member.password })).await.expect(200);
    let letters = letters(&world).await;
    let told: Vec<_> = letters.iter().map(|(to, letter)| (to, &letter["letter"], &letter["enabled"])).collect();
    let changed = json!("mfa_changed");
    assert_eq!(told, [(&member.email, &changed, &json!(true)), (&member.email, &changed, &json!(false))]);
    let rows: Vec<Row> =
        diesel::sql_query(
            "SELECT action AS word, to_jsonb(a) AS data FROM audit_entries a WHERE target_type <> 'organization' ORDER BY id",
        )
        .load(&mut world.conn().await)
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.word.as_str()).collect::<Vec<_>>(), ["user.mfa_enabled", "user.mfa_disabled"]);
    for row in rows {
        assert_eq!((&row.data["actor_id"], &row.data["ip"]), (&json!(member.id()), &json!("127.0.0.1")));
        let text = row.data.to_string();
        assert!(!text.contains(&secret) && codes.iter().all(|code| !text.contains(code.as_str())));
    }
}
