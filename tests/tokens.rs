//! Access tokens that are not what they say they are, and what the time of a login tells.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{Client, Member, World};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{Duration, Instant};

/// What the harness gives its APIs to sign with.
const SECRET: &str = "a secret of the tests, long enough for HS256";

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token signed as HS256 does it, whatever its header says.
fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let body = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// What a real token says.
fn claims(member: &Member) -> Value {
    let claims = member.client.token().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn hs256() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

async fn status(client: &Client, token: &str) -> u16 {
    client.with_token(token).get("/users/me").await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_claims_are_not_ours_is_refused_although_the_signature_is_right() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "off")]).await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let (own, others) = (claims(&member), claims(&other));
    let client = &member.client;
    assert_eq!(status(client, &signed(&hs256(), &own, SECRET.as_bytes())).await, 200, "the test can sign");
    let now = own["iat"].as_i64().unwrap();
    for (claim, value) in [
        ("exp", json!(now - 1)),
        ("exp", json!("never")),
        ("exp", Value::Null),
        ("aud", json!("another system")),
        ("aud", json!(["another system"])),
        ("aud", Value::Null),
        ("iss", json!("another system")),
        ("iss", Value::Null),
        ("type", json!("refresh")),
        ("type", Value::Null),
        // the login session of one user with the name of another, both ways
        ("sub", others["sub"].clone()),
        ("sid", others["sid"].clone()),
        ("sid", json!("00000000-0000-0000-0000-000000000000")),
        ("sub", json!("admin")),
    ] {
        let mut changed = own.clone();
        changed[claim] = value.clone();
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(claim);
        }
        assert_eq!(status(client, &signed(&hs256(), &changed, SECRET.as_bytes())).await, 401, "{claim} = {value}");
    }
    // role and organization are read from the database, whatever the token says
    let mut grand = own.clone();
    (grand["role"], grand["org"]) = (json!("admin"), others["org"].clone());
    let me = client.with_token(&signed(&hs256(), &grand, SECRET.as_bytes())).get("/users/me").await.expect(200);
    assert_eq!(me["organization_id"], json!(member.organization_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_signed_otherwise_is_refused() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "off")]).await;
    let member = world.member(&api).await;
    let (client, own) = (&member.client, claims(&member));
    let another = signed(&hs256(), &own, b"another secret, which is long enough for HS256, too");
    assert_eq!(status(client, &another).await, 401);
    for key in
        ["", "secret", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"]
    {
        assert_eq!(status(client, &signed(&hs256(), &own, key.as_bytes())).await, 401, "{key:?}");
    }
    // the header chooses nothing: neither no signature nor another algorithm, even if the signature would fit ours
    for alg in ["none", "None", "NONE", "", "HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA"] {
        let header = json!({ "alg": alg, "typ": "JWT" });
        let unsigned = format!("{}.{}.", part(&header), part(&own));
        let ours = signed(&header, &own, SECRET.as_bytes());
        for token in [&unsigned, unsigned.trim_end_matches('.'), &ours] {
            assert_eq!(status(client, token).await, 401, "{alg:?}");
        }
    }
    for header in [json!({ "typ": "JWT" }), json!({ "alg": null }), json!({ "alg": ["HS256"] }), json!("HS256")] {
        assert_eq!(status(client, &signed(&header, &own, SECRET.as_bytes())).await, 401, "{header}");
    }
    // a key in the header is not used, nor fetched
    let jwk = json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine") },
                      "jku": "http://127.0.0.1:9/keys", "kid": "../../dev/null" });
    assert_eq!(status(client, &signed(&jwk, &own, b"mine")).await, 401);
    let (start, signature) = client.token().rsplit_once('.').unwrap();
    for broken in [format!("{start}."), format!("{start}.AAAA"), format!("{start}.{}", &signature[..20])] {
        assert_eq!(status(client, &broken).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_opens_nothing_and_an_access_token_refreshes_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = member.client.anonymous();
    assert_eq!(status(&client, member.registration["refresh_token"].as_str().unwrap()).await, 401);
    let swapped = json!({ "refresh_token": member.client.token() });
    assert_eq!(client.post("/auth/refresh", swapped).await.error(401), "AUTHENTICATION_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_login_does_not_tell_whether_there_is_an_account() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "off")]).await;
    let member = world.member(&api).await;
    let client = member.client.anonymous();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..24 {
        // another account each time: tries on one account are few
        let known_email = world.member(&api).await.email;
        for (times, email) in [(&mut known, known_email), (&mut unknown, format!("nobody-{number}@example.com"))] {
            let body = json!({ "email": email, "password": "wrong horse 1" });
            let began = Instant::now();
            let answer = client.post("/auth/login", body).await;
            times.push(began.elapsed());
            assert_eq!(answer.error(401), "INVALID_CREDENTIALS");
        }
    }
    let ratio = median(known).as_secs_f64() / median(unknown).as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
