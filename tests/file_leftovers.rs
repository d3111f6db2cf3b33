//! Uploads that never come to their end: whoever breaks them off, nothing of them stays.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Member, World, eventually};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::json;
use shared::storage::PART_BYTES;
use standalone::services::{S3, ports};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A store of one's own, whose files can be looked at.
struct Store {
    folder: PathBuf,
    server: Option<S3>,
    port: u16,
}

impl Store {
    fn new(world: &World) -> Self {
        let mut store =
            Self { folder: world.servers.folder().join(format!("{}-s3", world.prefix)), server: None, port: 0 };
        store.start(world, None);
        store
    }

    fn start(&mut self, world: &World, port: Option<u16>) {
        let keys = world.servers.s3();
        let listener = ports::listen(port).unwrap();
        let server = S3::start(&self.folder, listener, "atelier", keys.access_key(), keys.secret_key()).unwrap();
        self.port = server.port();
        self.server = Some(server);
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Objects, and what the store keeps of uploads in parts.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        list(&self.folder, &mut found);
        found
    }
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, found) } else { found.push(path) }
    }
}

const LENGTH: usize = 4 * PART_BYTES;

/// Sends the first half of a file, and waits until some of it is stored.
async fn half(world: &World, member: &Member, store: &Store) -> TcpStream {
    let begin = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n";
    let (address, token) = (member.client.address(), member.client.token());
    let head = format!(
        "POST /api/v1/files/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\n\r\n{begin}",
        begin.len() + LENGTH + END.len(),
    );
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&vec![7; LENGTH / 2]).await.unwrap();
    eventually("the first part to be stored", async || {
        let noted = world.count_rows("file_uploads WHERE upload_id IS NOT NULL").await == 1;
        let part = store.files().iter().any(|path| path.to_string_lossy().contains(".part-1"));
        (noted && part).then_some(())
    })
    .await;
    connection
}

const END: &str = "\r\n--B--\r\n";

async fn wait_until_nothing_is_left(world: &World, store: &Store) {
    eventually("the note of the upload to go", async || (world.count_rows("file_uploads").await == 0).then_some(()))
        .await;
    eventually("the parts to go", async || store.files().is_empty().then_some(())).await;
    assert_eq!(world.count_rows("files").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hangs_up_leaves_nothing_behind() {
    let world = World::new().await;
    let store = Store::new(&world);
    let api = world.api_with(&[("ATELIER_S3_ENDPOINT", &store.endpoint())]).await;
    let member = world.member(&api).await;
    drop(half(&world, &member, &store).await);
    wait_until_nothing_is_left(&world, &store).await;
}

/// Begins to send a file, and stops after a few bytes of it.
async fn begin(member: &Member) -> TcpStream {
    let begin = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\nbytes";
    let (address, token) = (member.client.address(), member.client.token());
    let head = format!(
        "POST /api/v1/files/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 100000\r\nContent-Type: multipart/form-data; boundary=B\r\n\r\n{begin}",
    );
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_files_come_in_at_once_than_there_is_room_for() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(begin(&member).await);
    }
    let send = async || {
        let form = Form::new().part("file", Part::bytes(vec![7; 10]).file_name("a.bin"));
        member.client.send(member.client.request(Method::POST, "/api/v1/files/upload").multipart(form)).await
    };
    // until the last of them has found room, another one does, too
    let full = eventually("there to be no more room", async || {
        let answer = send().await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_eq!(full.headers["retry-after"], "2");
    assert_eq!(full.error(503), "SERVICE_UNAVAILABLE");
    drop(open);
    send().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_as_such_and_nothing_is_kept() {
    let world = World::new().await;
    // nothing listens on port 9 of the loopback
    let api = world.api_with(&[("ATELIER_S3_ENDPOINT", "http://127.0.0.1:9")]).await;
    let client = world.member(&api).await.client;
    for length in [10, PART_BYTES + 1] {
        let form = Form::new().part("file", Part::bytes(vec![7; length]).file_name("a.bin"));
        let answer = client.send(client.request(Method::POST, "/api/v1/files/upload").multipart(form)).await;
        assert_eq!(answer.error(502), "INTEGRATION_ERROR", "{length}");
    }
    assert_eq!((world.count_rows("files").await, world.count_rows("file_uploads").await), (0, 0));
    assert_eq!(client.get("/files").await.expect(200)["pagination"]["total"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_kept_that_failed_half_way_is_cleared_away_when_it_is_back() {
    let world = World::new().await;
    let mut store = Store::new(&world);
    let settings = [("ATELIER_S3_ENDPOINT", store.endpoint())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let api = world.api_with(&settings).await;
    let member = world.member(&api).await;
    let mut connection = half(&world, &member, &store).await;
    drop(store.server.take());
    connection.write_all(&vec![7; LENGTH / 2]).await.unwrap();
    connection.write_all(END.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"}}\r\n" || end.ends_with(b"}}")) {
        assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("INTEGRATION_ERROR"), "{answer}");
    assert_eq!(world.count_rows("file_uploads").await, 1, "it cannot be cleared away yet");

    store.start(&world, Some(store.port));
    world.run_sql("UPDATE file_uploads SET created_at = now() - interval '25 hours'").await;
    let _scheduler = world.scheduler_with(&[settings[0], ("ATELIER_PRUNE_EVERY", "1")]).await;
    wait_until_nothing_is_left(&world, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_has_left_that_died_is_cleared_away_and_a_younger_upload_is_not() {
    let world = World::new().await;
    let store = Store::new(&world);
    let settings = [("ATELIER_S3_ENDPOINT", store.endpoint())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut process = world.process(&["api"], &[settings[0], ("ATELIER_LOG_FORMAT", "json")]);
    let member = Member::register(&harness::Client::new(process.address().await)).await;
    let connection = half(&world, &member, &store).await;
    process.kill();
    drop(connection);
    assert!(!store.files().is_empty(), "a dead process clears nothing away");
    world
        .run_sql("INSERT INTO file_uploads (key, created_at) VALUES ('files/young', now() - interval '23 hours')")
        .await;
    world.run_sql("UPDATE file_uploads SET created_at = now() - interval '25 hours' WHERE key <> 'files/young'").await;
    let _scheduler = world.scheduler_with(&[settings[0], ("ATELIER_PRUNE_EVERY", "1")]).await;
    eventually("the parts to go", async || store.files().is_empty().then_some(())).await;
    eventually("its note to go", async || (world.count_rows("file_uploads").await == 1).then_some(())).await;
    assert_eq!(world.count_rows("file_uploads WHERE key = 'files/young'").await, 1);
}
