//! `/ws/processing/{job_id}`: every event once, in order, whenever one comes and whatever Redis does.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel_async::RunQueryDsl;
use futures_util::StreamExt;
use harness::{Client, Member, World, project_root};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use uuid::Uuid;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(client: &Client, job: &str, token: &str) -> Socket {
    let url = format!("ws://{}/ws/processing/{job}?token={token}", client.address());
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

/// The next frame, or the close code.
async fn next(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
            Some(Err(_)) | None => return Err(0),
        }
    }
}

async fn queued(member: &Member) -> (String, String) {
    let product = member.product("Mug").await;
    member.analysed_image(&product, &project_root().join("tests/images/rocket.jpg"), "image/jpeg").await
}

async fn cancel(member: &Member, job: &str) {
    member.client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
}

fn check_frames(frames: &[Value], job: &str, image: &str) {
    let seqs: Vec<_> = frames.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=u64::try_from(frames.len()).unwrap()).collect::<Vec<_>>());
    let (last, steps) = frames.split_last().unwrap();
    for frame in steps {
        assert_eq!(frame["type"], "step_update");
        assert_eq!((&frame["job_id"], &frame["image_id"]), (&json!(job), &json!(image)));
        assert!(frame["step"].is_string() && frame["data"].is_object() && frame["timestamp"].is_string(), "{frame}");
        assert_eq!(frame["progress"]["total"], 5);
    }
    let done: Vec<_> = steps
        .iter()
        .filter(|frame| frame["status"] == "completed")
        .map(|frame| frame["step"].as_str().unwrap())
        .collect();
    assert_eq!(done, ["preprocess", "classify", "extract_attributes", "detect_defects", "describe"]);
    let classified = steps.iter().find(|frame| frame["step"] == "classify" && frame["status"] == "completed").unwrap();
    assert!(classified["data"]["classification_label"].is_string() && classified["data"]["confidence"].is_number());
    assert_eq!((&last["type"], &last["status"]), (&json!("job_complete"), &json!("completed")));
    assert_eq!((&last["image_id"], &last["step"]), (&Value::Null, &Value::Null));
    assert_eq!(last["progress"], json!({ "completed": 5, "total": 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_tells_the_whole_story_live_late_and_from_the_middle() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (image, job) = queued(&member).await;
    let ((frames, code), worker) = tokio::join!(member.client.follow(&job, ""), world.worker(&["images"]));
    assert_eq!(code, 1000);
    check_frames(&frames, &job, &image);

    assert_eq!(member.client.follow(&job, "").await, (frames.clone(), 1000), "a late client misses nothing");
    let (rest, code) = member.client.follow(&job, "&last_event_id=3").await;
    assert_eq!((rest.as_slice(), code), (&frames[3..], 1000));
    let all = frames.len();
    assert_eq!(member.client.follow(&job, &format!("&last_event_id={all}")).await, (Vec::new(), 1000));
    assert_eq!(member.client.follow(&job, "&last_event_id=99999").await, (Vec::new(), 1000));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_without_redis() {
    let world = World::new().await;
    // nothing listens on port 9 of the loopback
    let api = world.api_with(&[("REDIS_URL", "redis://127.0.0.1:9")]).await;
    let member = world.member(&api).await;
    let (image, job) = queued(&member).await;
    // the API could not push the job; the scheduler does
    let scheduler = world.scheduler().await;
    let ((frames, code), worker) = tokio::join!(member.client.follow(&job, ""), world.worker(&["images"]));
    assert_eq!(code, 1000);
    check_frames(&frames, &job, &image);
    worker.stop().await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_its_socket() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (_, job) = queued(&member).await;
    let mut socket = open(&member.client, &job, member.client.token()).await;
    cancel(&member, &job).await;
    let frame = next(&mut socket).await.unwrap();
    assert_eq!(
        (&frame["type"], &frame["status"], &frame["seq"]),
        (&json!("job_failed"), &json!("cancelled"), &json!(1))
    );
    assert!(frame["data"]["error_message"].is_string());
    assert_eq!(next(&mut socket).await, Err(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_close_code_says_why_a_socket_is_refused() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (_, job) = queued(&member).await;
    for token in ["", "nonsense", "a.b.c"] {
        assert_eq!(next(&mut open(&member.client, &job, token).await).await, Err(4001), "{token}");
    }
    for unknown in [Uuid::now_v7().to_string(), "mug".to_owned()] {
        assert_eq!(
            next(&mut open(&member.client, &unknown, member.client.token()).await).await,
            Err(4003),
            "{unknown}"
        );
    }
    member.client.post("/auth/logout", json!({})).await.expect(200);
    assert_eq!(next(&mut open(&member.client, &job, member.client.token()).await).await, Err(4001), "logged out");
    let again = member.client.post("/auth/login", json!({ "email": member.email, "password": member.password })).await;
    let client = member.client.with_token(again.expect(200)["access_token"].as_str().unwrap());
    client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sixth_socket_is_closed_until_one_of_the_five_is_gone() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let elsewhere = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let unlimited = world.api().await;
    let member = world.member(&api).await;
    let (_, job) = queued(&member).await;
    let token = member.client.token().to_owned();
    let held = async |client: &Client| {
        let mut socket = open(client, &job, &token).await;
        // a socket that was let in answers nothing; one that was not is closed before this ping is answered
        futures_util::SinkExt::send(&mut socket, Message::Ping(Vec::new().into())).await.unwrap();
        match socket.next().await {
            Some(Ok(Message::Pong(_))) => Ok(socket),
            Some(Ok(Message::Close(frame))) => Err(frame.map_or(0, |frame| u16::from(frame.code))),
            other => unreachable!("{other:?}"),
        }
    };
    let mut open = Vec::new();
    for client in [&member.client, &world.client(&elsewhere), &member.client, &world.client(&elsewhere), &member.client]
    {
        open.push(held(client).await.unwrap());
    }
    assert_eq!(held(&world.client(&elsewhere)).await.err(), Some(4029), "five are open, on two servers");
    assert!(held(&world.client(&unlimited)).await.is_ok());
    open.pop().unwrap().close(None).await.unwrap();
    harness::eventually("a slot to be free", async || held(&member.client).await.ok()).await;
    cancel(&member, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_tells_its_sockets_to_connect_again() {
    let world = World::new().await;
    let (api, other) = (world.api().await, world.api().await);
    let member = world.member(&api).await;
    let (_, job) = queued(&member).await;
    let mut socket = open(&member.client, &job, member.client.token()).await;
    futures_util::SinkExt::send(&mut socket, Message::Ping(Vec::new().into())).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Pong(_)))), "it is open");
    let (closed, ()) = tokio::join!(next(&mut socket), api.running.stop());
    assert_eq!(closed, Err(1001));
    let client = world.client(&other).with_token(member.client.token());
    client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_not_waited_for() {
    let world = World::new().await;
    // slots are counted only where sockets are limited
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let member = world.member(&api).await;
    let (_, job) = queued(&member).await;
    // more than the buffers on the way can hold
    let stuffing = "WITH events AS ( \
            INSERT INTO job_events (job_id, seq, body) \
            SELECT id, seq, jsonb_build_object('type', 'step_update', 'item', NULL, 'step', 'classify', \
                'status', 'running', 'data', jsonb_build_object('text', repeat('x', 200000)), \
                'progress', jsonb_build_object('completed', 0, 'total', 5), 'at', now()) \
            FROM jobs, generate_series(1, 200) AS seq RETURNING seq) \
         UPDATE jobs SET last_seq = (SELECT max(seq) FROM events)";
    diesel::sql_query(stuffing).execute(&mut world.conn().await).await.unwrap();
    let slots = format!("{}:sockets:processing:{}", world.prefix, member.registration["id"].as_str().unwrap());
    let count = async || redis::cmd("ZCARD").arg(&slots).query_async::<u32>(&mut world.redis.clone()).await.unwrap();

    let mut lazy = open(&member.client, &job, member.client.token()).await;
    harness::eventually("the socket to be let in", async || (count().await == 1).then_some(())).await;
    harness::eventually("the socket to be given up", async || (count().await == 0).then_some(())).await;
    let mut last = 0;
    while let Ok(frame) = next(&mut lazy).await {
        last = frame["seq"].as_u64().unwrap();
    }
    assert!((1..200).contains(&last), "it got the first {last} of 200 events");

    let url = format!("&last_event_id={last}");
    let (rest, ()) = tokio::join!(member.client.follow(&job, &url), cancel(&member, &job));
    assert_eq!(
        (rest.0[0]["seq"].as_u64(), rest.0.last().unwrap()["seq"].as_u64(), rest.1),
        (Some(last + 1), Some(201), 1000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_request_to_a_socket_is_told_to_use_one() {
    let world = World::new().await;
    let api = world.api().await;
    let client = world.client(&api);
    let path = format!("/ws/processing/{}", Uuid::new_v4());
    let answer = client.send(client.request(reqwest::Method::GET, &path)).await;
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("WebSocket"), "{}", answer.text);
    assert_eq!(answer.error(400), "VALIDATION_ERROR");
}
