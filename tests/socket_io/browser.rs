//! The client library of Socket.IO, as browsers have it, in a node process that does what it is told.

use harness::Member;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    sync::OnceCell,
    time::timeout,
};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    ("client.mjs", include_str!("client.mjs")),
];

/// The interpreter, and a folder with the library.
static INSTALLED: OnceCell<(PathBuf, PathBuf)> = OnceCell::const_new();

/// One node process with any number of sockets.
pub(super) struct Browser {
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    heard: HashMap<String, VecDeque<(String, Vec<Value>)>>,
    acks: usize,
}

impl Browser {
    pub(super) async fn start() -> Self {
        let installed = INSTALLED.get_or_init(|| async { tokio::task::spawn_blocking(install).await.unwrap() });
        let (node, folder) = installed.await;
        let mut child = tokio::process::Command::new(node)
            .arg("client.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, commands, lines, heard: HashMap::new(), acks: 0 }
    }

    async fn command(&mut self, command: Value) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Opens a socket without waiting for what comes of it.
    pub(super) async fn open(&mut self, name: &str, address: SocketAddr, options: Value) {
        let url = format!("http://{address}");
        self.command(json!({ "do": "open", "as": name, "url": url, "options": options })).await;
    }

    /// Opens a socket as this member, by WebSocket alone, and waits until it is open.
    pub(super) async fn enter(&mut self, name: &str, address: SocketAddr, member: &Member) {
        let token = format!("Bearer {}", member.client.token());
        let options = json!({ "auth": { "token": token }, "transports": ["websocket"], "reconnection": false });
        self.open(name, address, options).await;
        assert_eq!(self.next(name).await, ("connect".to_owned(), vec![json!("websocket")]));
    }

    /// Emits an event and waits for the acknowledgement; what the socket hears before it is kept.
    pub(super) async fn ask(&mut self, name: &str, event: &str, arg: Value) -> Value {
        self.acks += 1;
        let ack = format!("ack {}", self.acks);
        self.command(json!({ "do": "emit", "as": name, "event": event, "args": [arg], "ack": ack })).await;
        loop {
            let (who, what, mut args) = self.line().await;
            if who == name && what == ack {
                return args.remove(0);
            }
            self.heard.entry(who).or_default().push_back((what, args));
        }
    }

    /// Into the room of a pipeline.
    pub(super) async fn join(&mut self, name: &str, pipeline: &str) {
        assert_eq!(self.ask(name, "join:pipeline", json!(pipeline)).await, json!({ "ok": true }));
    }

    pub(super) async fn close(&mut self, name: &str) {
        self.command(json!({ "do": "close", "as": name })).await;
        assert_eq!(self.next(name).await, ("disconnect".to_owned(), vec![json!("io client disconnect")]));
    }

    /// What a socket hears next.
    pub(super) async fn next(&mut self, name: &str) -> (String, Vec<Value>) {
        loop {
            if let Some(heard) = self.heard.get_mut(name).and_then(VecDeque::pop_front) {
                return heard;
            }
            let (who, what, args) = self.line().await;
            self.heard.entry(who).or_default().push_back((what, args));
        }
    }

    /// The data of the next event, which must have this name and both forms of the payload.
    pub(super) async fn event(&mut self, name: &str, event: &str) -> Value {
        let (heard, args) = self.next(name).await;
        assert_eq!(heard, event, "{args:?}");
        data(event, args)
    }

    /// The names and the data of everything up to an event of this name.
    pub(super) async fn until(&mut self, name: &str, event: &str) -> Vec<(String, Value)> {
        let mut heard = Vec::new();
        loop {
            let (what, args) = self.next(name).await;
            let is_last = what == event;
            heard.push((what.clone(), data(&what, args)));
            if is_last {
                return heard;
            }
        }
    }

    /// A socket has heard nothing that was not asked about: whatever was told before is told before the answer.
    pub(super) async fn hears_nothing(&mut self, name: &str) {
        let answer = self.ask(name, "leave:pipeline", json!(uuid::Uuid::now_v7())).await;
        assert_eq!(answer, json!({ "ok": true }));
        let unheard = self.heard.get(name).filter(|unheard| !unheard.is_empty());
        assert!(unheard.is_none(), "{name} has heard {unheard:?}");
    }

    async fn line(&mut self) -> (String, String, Vec<Value>) {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("the sockets hear nothing");
        let line: Value = serde_json::from_str(&line.unwrap().expect("node has ended")).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (text("as"), text("event"), line["args"].as_array().unwrap().clone())
    }

    /// Ends the process as a crash does.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The data of an event, which stands in the argument in both forms.
fn data(event: &str, mut args: Vec<Value>) -> Value {
    assert_eq!(args.len(), 1, "{event} has one argument");
    let arg = args.remove(0);
    let data = arg["data"].clone();
    assert_eq!(arg["type"], event);
    let mut both = data.clone();
    both["type"] = json!(event);
    both["data"] = data.clone();
    assert_eq!(arg, both, "the fields of data stand beside it");
    data
}

/// The interpreter, and a folder with the library, the same for every run until its version changes.
fn install() -> (PathBuf, PathBuf) {
    let node = harness::node();
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("target/<profile>/deps/<test>");
    let mut state = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(&FILES, &mut state);
    let folder = target.join("socket_io").join(format!("{:016x}", std::hash::Hasher::finish(&state)));
    if folder.is_dir() {
        return (node.program, folder);
    }
    let under_way = target.join("socket_io").join(std::process::id().to_string());
    fs::create_dir_all(&under_way).unwrap();
    for (name, text) in FILES {
        fs::write(under_way.join(name), text).unwrap();
    }
    let output = node.npm().args(["ci", "--no-audit", "--no-fund"]).current_dir(&under_way).output().unwrap();
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    // another run may have been faster
    if fs::rename(&under_way, &folder).is_err() {
        fs::remove_dir_all(&under_way).unwrap();
    }
    (node.program, folder)
}
