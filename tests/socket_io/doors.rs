//! Who is let in, how many, and until when.

use super::{Browser, pipeline, start};
use harness::{Client, Member, World, eventually};
use serde_json::{Value, json};
use std::net::SocketAddr;

async fn key(member: &Member, permission: &str) -> String {
    let body = json!({ "name": "Watcher", "permissions": [permission] });
    member.client.post("/api-keys", body).await.expect(201)["key"].as_str().unwrap().to_owned()
}

/// What comes of a client with these options.
async fn knock(browser: &mut Browser, address: SocketAddr, mut options: Value) -> (String, Value) {
    let name = uuid::Uuid::now_v7().to_string();
    options["reconnection"] = json!(false);
    browser.open(&name, address, options).await;
    let (event, mut args) = browser.next(&name).await;
    (event, args.remove(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_taken_wherever_a_client_can_put_them() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let token = member.client.token().to_owned();
    let key = key(&member, "pipelines:read").await;
    for (transports, transport) in [(json!(["polling"]), "polling"), (json!(["websocket"]), "websocket")] {
        for options in [
            json!({ "auth": { "token": format!("Bearer {token}") } }),
            json!({ "auth": { "token": token } }),
            json!({ "auth": { "token": key } }),
            json!({ "query": { "token": token } }),
            json!({ "extraHeaders": { "Authorization": format!("Bearer {token}") } }),
            json!({ "extraHeaders": { "X-API-Key": key } }),
            json!({ "auth": { "token": token }, "query": { "token": "nonsense" } }),
        ] {
            let mut options = options;
            options["transports"] = transports.clone();
            let came = knock(&mut browser, api.address, options.clone()).await;
            assert_eq!(came, ("connect".to_owned(), json!(transport)), "{options}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_hears_the_code_as_the_message_of_connect_error() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    let blind = key(&member, "ai:read").await;
    let away = world.member(&api).await;
    away.client.post("/auth/logout", json!({})).await.expect(200);
    let short = world.api_with(&[("ATELIER_ACCESS_TOKEN_TTL", "1")]).await;
    let expired = world.member(&short).await;
    eventually("a token to run out", async || {
        (expired.client.get("/auth/me").await.status.as_u16() == 401).then_some(())
    })
    .await;
    for transport in ["polling", "websocket"] {
        for (options, code) in [
            (json!({}), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": {} }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": 7 } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": "Bearer nonsense" } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": "sk_live_nonsense" } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "query": { "token": "nonsense" } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": away.client.token() } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": expired.client.token() } }), "AUTHENTICATION_REQUIRED"),
            (json!({ "auth": { "token": blind } }), "INSUFFICIENT_PERMISSIONS"),
        ] {
            let mut options = options;
            options["transports"] = json!([transport]);
            let came = knock(&mut browser, api.address, options.clone()).await;
            assert_eq!(came, ("connect_error".to_owned(), json!(code)), "{options}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sixth_socket_is_refused_until_one_of_the_five_is_gone_wherever_they_are() {
    let world = World::new().await;
    let limits = [("ATELIER_RATE_LIMITS", "on")];
    let (api, elsewhere) = (world.api_with(&limits).await, world.api_with(&limits).await);
    let unlimited = world.api().await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    for (name, address) in [
        ("one", api.address),
        ("two", elsewhere.address),
        ("three", api.address),
        ("four", elsewhere.address),
        ("five", api.address),
    ] {
        browser.enter(name, address, &member).await;
    }
    let options = json!({ "auth": { "token": member.client.token() }, "transports": ["websocket"] });
    let refused = ("connect_error".to_owned(), json!("RATE_LIMIT_EXCEEDED"));
    assert_eq!(knock(&mut browser, elsewhere.address, options.clone()).await, refused);
    assert_eq!(knock(&mut browser, unlimited.address, options.clone()).await.0, "connect");
    let page = member.client.send(member.client.request(reqwest::Method::GET, "/metrics")).await.text;
    assert!(page.contains("atelier_open_sockets{kind=\"socket_io\"}"), "{page}");
    browser.close("three").await;
    loop {
        let came = knock(&mut browser, elsewhere.address, options.clone()).await;
        if came.0 == "connect" {
            break;
        }
        assert_eq!(came, refused);
    }
}

/// Does something to somebody who listens; the socket has to hear that the server has ended it.
async fn sent_away(what: &str, act: impl AsyncFnOnce(&World, &Client, &Member)) {
    let world = World::new().await;
    let api = world.api().await;
    let (chief, mut browser) = (world.member(&api).await, Browser::start().await);
    let member = world.colleague(&api, &chief, "member").await;
    browser.enter("chief", api.address, &chief).await;
    let pipeline = pipeline(&chief).await;
    assert_eq!(browser.event("chief", "pipeline:created").await["id"], json!(pipeline));
    let auth = json!({ "token": member.client.token() });
    browser.open("polling", api.address, json!({ "auth": auth, "transports": ["polling"] })).await;
    assert_eq!(browser.next("polling").await.0, "connect");
    browser.enter("websocket", api.address, &member).await;
    browser.join("chief", &pipeline).await;
    for name in ["polling", "websocket"] {
        browser.join(name, &pipeline).await;
        assert_eq!(browser.event("chief", "user:joined").await["user_id"], json!(member.id()));
    }
    assert_eq!(browser.event("polling", "user:joined").await["user_id"], json!(member.id()));

    act(&world, &chief.client, &member).await;
    for name in ["polling", "websocket"] {
        let gone = loop {
            let heard = browser.next(name).await;
            // the other one may be sent away first
            if heard.0 != "user:left" {
                break heard;
            }
        };
        assert_eq!(gone, ("disconnect".to_owned(), vec![json!("io server disconnect")]), "{what}");
        assert_eq!(browser.event("chief", "user:left").await["user_id"], json!(member.id()));
    }
    browser.hears_nothing("chief").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_sockets_of_its_session() {
    sent_away("logout", async |_, _, member| {
        member.client.post("/auth/logout", json!({})).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_user_hears_nothing_more() {
    sent_away("disabled", async |world, _, member| {
        world.run_sql(&format!("UPDATE users SET is_active = false WHERE id = '{}'", member.id())).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_hears_nothing_more() {
    sent_away("removed", async |_, chief, member| {
        let path = format!("/organizations/current/members/{}", member.id());
        assert!(chief.delete(&path).await.status.is_success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changes_to_another_organization_leaves_the_sockets_of_the_former() {
    sent_away("changed", async |_, _, member| {
        let path = format!("/organizations/{}/switch", member.organization_id());
        assert!(member.client.post(&path, json!({})).await.status.is_success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_that_runs_out_does_not_end_a_socket_that_is_open() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_ACCESS_TOKEN_TTL", "2")]).await;
    let (member, mut browser) = (world.member(&api).await, Browser::start().await);
    browser.enter("socket", api.address, &member).await;
    let pipeline = pipeline(&member).await;
    eventually("the token to run out", async || {
        (member.client.get("/auth/me").await.status.as_u16() == 401).then_some(())
    })
    .await;
    browser.event("socket", "pipeline:created").await;
    let login = json!({ "email": member.email, "password": member.password });
    let again = member.client.post("/auth/login", login).await.expect(200);
    let later = Member {
        client: member.client.with_token(again["access_token"].as_str().unwrap()),
        registration: member.registration.clone(),
        email: member.email.clone(),
        password: member.password.clone(),
    };
    let run = start(&later, &pipeline).await;
    world.take(run).await.complete().await;
    assert_eq!(browser.event("socket", "execution:started").await["id"], json!(run));
    browser.event("socket", "execution:completed").await;
}
