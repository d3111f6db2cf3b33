//! What no client library sends: garbage, floods, and silence.

use super::{pipeline, start};
use bytes::Bytes;
use diesel_async::RunQueryDsl;
use futures_util::{SinkExt, StreamExt};
use harness::{Client, Member, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

async fn websocket(client: &Client) -> Socket {
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", client.address());
    let mut socket = tokio_tungstenite::connect_async(url).await.unwrap().0;
    assert!(text(&mut socket).await.unwrap().starts_with('0'), "the engine opens");
    socket
}

/// The next text that is no ping; none once it is closed. Pings are answered.
async fn text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                // who has closed meanwhile is not there to hear it
                let _ = socket.send(Message::text("3")).await;
            }
            Some(Ok(Message::Text(text))) => return Some(text.to_string()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
        }
    }
}

async fn enter(member: &Member) -> Socket {
    let mut socket = websocket(&member.client).await;
    socket.send(Message::text(format!("40{}", json!({ "token": member.client.token() })))).await.unwrap();
    assert!(text(&mut socket).await.unwrap().starts_with("40{"), "it is let in");
    socket
}

/// Begins a session of polling; returns its path.
async fn session(client: &Client) -> String {
    let opened = client.anonymous().send(client.anonymous().request(Method::GET, POLLING)).await;
    assert_eq!(opened.status.as_u16(), 200, "{}", opened.text);
    let opened: Value = serde_json::from_str(opened.text.strip_prefix('0').unwrap()).unwrap();
    format!("{POLLING}&sid={}", opened["sid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_the_protocol_are_refused_in_the_form_of_all_errors() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    for path in [
        "/socket.io",
        "/socket.io/",
        "/socket.io/?EIO=4",
        "/socket.io/?EIO=3&transport=polling",
        "/socket.io/?EIO=4&transport=pigeon",
        "/socket.io/?EIO=4&transport=websocket",
        "/socket.io/?EIO=4&transport=polling&sid=nonsense",
        "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA",
        "/socket.io/?EIO=4&transport=polling&transport=polling",
        "/socket.io/?EIO=4&transport=%00",
    ] {
        for method in [Method::GET, Method::POST] {
            let request = client.request(method.clone(), path).header("content-type", "text/plain").body("40");
            assert_eq!(client.send(request).await.error(400), "VALIDATION_ERROR", "{method} {path}");
        }
    }
    assert_eq!(client.send(client.request(Method::POST, POLLING).body("40")).await.error(400), "VALIDATION_ERROR");
    for method in [Method::PUT, Method::DELETE] {
        assert_eq!(client.send(client.request(method, POLLING)).await.error(405), "METHOD_NOT_ALLOWED");
    }
    assert_eq!(client.send(client.request(Method::OPTIONS, POLLING)).await.status.as_u16(), 204);
    assert_eq!(client.send(client.request(Method::HEAD, POLLING)).await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_allowed_origins_may_poll() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_CORS_ORIGINS", "https://app.example.com")]).await;
    let client = world.client(&api);
    let asked = |origin: &'static str| client.request(Method::GET, POLLING).header("origin", origin);
    let allowed = client.send(asked("https://app.example.com")).await;
    assert_eq!(allowed.status.as_u16(), 200);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example.com");
    assert!(allowed.headers.contains_key("x-request-id"));
    let other = client.send(asked("https://evil.example.com")).await;
    assert!(other.headers.get("access-control-allow-origin").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polling_body_of_garbage_ends_its_session_and_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api).anonymous();
    let bodies: [Vec<u8>; 9] = [
        vec![],
        vec![0],
        b"\xff\xfe\xfd".to_vec(),
        b"9".to_vec(),
        b"4".to_vec(),
        b"4\x1e4\x1e4".to_vec(),
        b"451-[\"x\",{\"_placeholder\":true,\"num\":9}]".to_vec(),
        b"bAAAA====".to_vec(),
        b"42/nowhere,[\"join:pipeline\"".to_vec(),
    ];
    for body in bodies {
        let path = session(&client).await;
        let request = client.request(Method::POST, &path).header("content-type", "text/plain").body(body.clone());
        let status = client.send(request).await.status;
        assert!(status.as_u16() == 200 || status.as_u16() == 400, "{status} for {:?}", Bytes::from(body));
    }
    let path = session(&client).await;
    let large = client.request(Method::POST, &path).body(vec![b'4'; 1 << 20]);
    assert_eq!(client.send(large).await.error(400), "VALIDATION_ERROR");
    assert_eq!(client.get("/health").await.status.as_u16(), 404);
    assert_eq!(client.send(client.request(Method::GET, "/health")).await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_garbage_end_their_socket_and_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let mut neighbour = enter(&member).await;
    let garbage = [
        Message::text(""),
        Message::text("x"),
        Message::text("0"),
        Message::text("4"),
        Message::text("49"),
        Message::text("40{"),
        Message::text("40/nowhere,"),
        Message::text("42"),
        Message::text("42[]"),
        Message::text("42[7]"),
        Message::text("42{\"join:pipeline\":1}"),
        Message::text("42[\"join:pipeline\"]"),
        Message::text("42999999999999999999999[\"join:pipeline\",\"x\"]"),
        Message::text("431[]"),
        Message::text("44{\"message\":\"no\"}"),
        Message::text("45999-[\"join:pipeline\"]"),
        Message::text("451-[\"join:pipeline\",{\"_placeholder\":true,\"num\":0}]"),
        Message::text("2probe"),
        Message::text("5"),
        Message::binary(vec![0, 1, 2]),
        Message::text(format!("42[\"join:pipeline\",\"{}\"]", "x".repeat(1 << 20))),
        Message::text(format!("42{}{}", "[".repeat(20_000), "]".repeat(20_000))),
    ];
    for message in garbage {
        for let_in in [false, true] {
            let mut socket = if let_in { enter(&member).await } else { websocket(&member.client).await };
            // a server that has closed already says so by an error
            let _ = socket.send(message.clone()).await;
            let _ = socket.send(Message::text("41")).await;
            let _ = socket.close(None).await;
            while text(&mut socket).await.is_some() {}
        }
    }
    neighbour.send(Message::text("421[\"leave:pipeline\",\"nowhere\"]")).await.unwrap();
    assert!(text(&mut neighbour).await.unwrap().starts_with("431[{"), "the neighbour is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_without_waiting_for_answers_is_told_to_wait() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = pipeline(&member).await;
    let mut socket = enter(&member).await;
    for number in 0..200 {
        socket.feed(Message::text(format!("42{number}[\"join:pipeline\",\"{id}\"]"))).await.unwrap();
    }
    socket.flush().await.unwrap();
    let mut refused = 0;
    for _ in 0..200 {
        let answer = text(&mut socket).await.unwrap();
        if answer.contains("RATE_LIMIT_EXCEEDED") {
            refused += 1;
        } else {
            assert!(answer.contains("\"ok\":true"), "{answer}");
        }
    }
    assert!((1..200).contains(&refused), "{refused} of 200 were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_introduce_itself_is_left() {
    let world = World::new().await;
    let api = world.api().await;
    let mut socket = websocket(&world.client(&api)).await;
    while text(&mut socket).await.is_some() {}
    let path = session(&world.client(&api)).await;
    eventually("the session to be forgotten", async || {
        let request = world.client(&api).request(Method::POST, &path).header("content-type", "text/plain").body("3");
        (world.client(&api).send(request).await.status.as_u16() == 400).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_dropped_and_holds_up_nobody() {
    let world = World::new().await;
    // slots are counted only where sockets are limited
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let member = world.member(&api).await;
    let id = pipeline(&member).await;
    let run = start(&member, &id).await;
    let slots = format!("{}:sockets:socket_io:{}", world.prefix, member.id());
    let count = async || redis::cmd("ZCARD").arg(&slots).query_async::<u32>(&mut world.redis.clone()).await.unwrap();
    let lazy = enter(&member).await;
    let mut eager = enter(&member).await;
    eventually("both to be let in", async || (count().await == 2).then_some(())).await;
    let hand = world.take(run).await;
    // more than the buffers on the way can hold
    let stuffing = format!(
        "WITH events AS ( \
             INSERT INTO job_events (job_id, seq, body) \
             SELECT id, last_seq + number, jsonb_build_object('type', 'step_update', 'item', NULL, 'step', 'up', \
                 'status', 'running', 'data', jsonb_build_object('message', repeat('x', 20000)), \
                 'progress', jsonb_build_object('completed', 0, 'total', 2), 'at', now()) \
             FROM jobs, generate_series(1, 1000) AS number WHERE id = '{run}' RETURNING seq) \
         UPDATE jobs SET last_seq = (SELECT max(seq) FROM events) WHERE id = '{run}'"
    );
    diesel::sql_query(stuffing).execute(&mut world.conn().await).await.unwrap();
    hand.complete().await;
    let mut told = 0;
    loop {
        let said = text(&mut eager).await.unwrap();
        told += 1;
        if said.contains("execution:completed") {
            break;
        }
    }
    assert_eq!(told, 1_002);
    eventually("the other to be given up", async || (count().await == 1).then_some(())).await;
    drop(lazy);
}
