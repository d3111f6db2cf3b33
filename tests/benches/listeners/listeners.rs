//! Clients that do little but note when something came.

use chrono::{DateTime, Utc};
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// A way to follow a job.
#[derive(Clone, Copy)]
pub(crate) enum Listener<'a> {
    /// Server-sent events.
    Events { address: SocketAddr, token: &'a str, path: &'a str },
    /// A WebSocket of ours.
    Socket { address: SocketAddr, path: &'a str },
    /// Socket.IO by WebSocket.
    SocketIo { address: SocketAddr, token: &'a str },
}

/// A listener that is let in.
pub(crate) enum Open {
    Events(BufReader<TcpStream>),
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

/// What a listener has heard.
#[derive(Default)]
pub(crate) struct Heard {
    /// The numbers of the events.
    pub(crate) numbers: Vec<u64>,
    /// How long each was on its way.
    pub(crate) times: Vec<Duration>,
    over: bool,
}

/// As many as the system allows, for this process and those it starts.
pub(crate) fn allow_many_connections() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).unwrap();
}

impl Listener<'_> {
    /// Opens it, and waits until it is let in.
    pub(crate) async fn open(&self) -> Open {
        match *self {
            Self::Events { address, token, path } => {
                let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
                let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n");
                stream.get_mut().write_all(request.as_bytes()).await.unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                assert!(line.starts_with("HTTP/1.1 200"), "{line}");
                Open::Events(stream)
            }
            Self::Socket { address, path } => {
                let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await.unwrap();
                let mut socket = Box::new(socket);
                // a socket that is not let in is closed before it answers
                socket.send(Message::Ping(Vec::new().into())).await.unwrap();
                let answer = socket.next().await.unwrap().unwrap();
                assert!(answer.is_pong(), "{answer}");
                Open::Socket(socket)
            }
            Self::SocketIo { address, token } => {
                let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
                let mut socket = Box::new(tokio_tungstenite::connect_async(url).await.unwrap().0);
                socket.next().await.unwrap().unwrap();
                socket.send(Message::text(format!("40{}", json!({ "token": token })))).await.unwrap();
                loop {
                    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
                    if answer.as_str() == "2" {
                        socket.send(Message::text("3")).await.unwrap();
                        continue;
                    }
                    assert!(answer.starts_with("40{"), "{answer}");
                    return Open::Socket(socket);
                }
            }
        }
    }
}

impl Open {
    /// Listens until the job has ended.
    pub(crate) async fn listen(self) -> Heard {
        let mut heard = Heard::default();
        match self {
            Self::Events(mut stream) => {
                let mut line = String::new();
                while !heard.over {
                    line.clear();
                    assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the stream ends with the job");
                    if line.starts_with("data: ") {
                        heard.note(&line);
                    }
                }
            }
            Self::Socket(mut socket) => {
                while !heard.over {
                    let message = socket.next().await.unwrap().unwrap();
                    let Message::Text(text) = message else { continue };
                    if text.as_str() == "2" {
                        socket.send(Message::text("3")).await.unwrap();
                    } else {
                        heard.note(&text);
                    }
                }
            }
        }
        heard
    }
}

impl Heard {
    fn note(&mut self, text: &str) {
        let now = Utc::now();
        let field = |name: &str| Some(text.split_once(name)?.1.split(['"', ',', '}']).next()?.to_owned());
        let number = field("\"seq\":").unwrap().parse().unwrap();
        let at = field("\"timestamp\":\"").or_else(|| field("\"completed_at\":\"")).unwrap();
        let at: DateTime<Utc> = at.parse().unwrap();
        self.over =
            ["execution:completed", "\"completed_at\"", "\"job_complete\""].iter().any(|end| text.contains(end));
        self.numbers.push(number);
        // what was microseconds ahead of its row was on its way for no time
        self.times.push((now - at).to_std().unwrap_or_default());
    }
}
