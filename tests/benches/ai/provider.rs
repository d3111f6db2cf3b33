//! A provider in OpenAI's dialect that answers at once. The tokens of a stream are the times at which they were sent.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// Between two tokens of a stream: those of a quick model.
const PACE: Duration = Duration::from_millis(5);

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the beginning of the bench.
pub(crate) fn now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_micros()).unwrap()
}

/// Starts the provider; it serves as long as the bench runs. Returns its base URL.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("http://{}/v1/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // whoever hangs up in the middle is served no more
            thread::spawn(move || serve(connection).unwrap_or_default());
        }
    });
    base
}

/// A catalogue with this provider's model.
pub(crate) fn catalogue(base: &str) -> String {
    format!(
        "[provider.bench]\ndialect = \"open_ai\"\nbase_url = \"{base}\"\nconcurrency = 1000\n\n[[model]]\nid = \"bench\"\n\
         name = \"bench\"\ndescription = \"\"\nprovider = \"bench\"\naliases = [\"minimax\", \"gpt-4\"]\ncontext = 8192\n\
         max_tokens = 4096\nprice_in = 0.0\nprice_out = 0.0\ncapabilities = [\"chat\", \"generate\"]\n"
    )
}

/// One request; the connection is closed after it.
fn serve(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request: Value = serde_json::from_slice(&body)?;
    if request["stream"] != true {
        let answer = json!({
            "id": "1", "object": "chat.completion", "created": 1, "model": "bench",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        })
        .to_string();
        return write!(
            connection,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    let event = |delta: Value, reason: Value| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
        let chunk =
            json!({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices});
        format!("data: {chunk}\n\n")
    };
    for _ in 0..request["max_tokens"].as_u64().unwrap_or(1) {
        thread::sleep(PACE);
        connection.write_all(event(json!({"content": format!("{} ", now())}), Value::Null).as_bytes())?;
    }
    connection.write_all(event(json!({}), json!("stop")).as_bytes())?;
    let usage = json!({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
    connection.write_all(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes())
}
