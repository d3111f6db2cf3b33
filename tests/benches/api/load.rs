//! Load: connections that send the same request again and again, each waiting for its answer. As little as possible is done
//! here, since it shares the cores with what is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// What came of it.
pub(crate) struct Outcome {
    /// Requests a second.
    pub(crate) rate: f64,
    /// How long each took, sorted.
    pub(crate) times: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn at(&self, share: usize) -> f64 {
        self.times[(self.times.len() * share / 100).min(self.times.len() - 1)].as_secs_f64() * 1e3
    }
}

/// Sends `requests` in turn over so many connections, for so long.
pub(crate) async fn run(address: SocketAddr, requests: &[String], connections: usize, span: Duration) -> Outcome {
    let done = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut all = JoinSet::new();
    for number in 0..connections {
        let request = requests[number % requests.len()].clone();
        let done = done.clone();
        all.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut buffer, mut times) = (vec![0; 64 << 10], Vec::new());
            while began.elapsed() < span {
                let sent = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                answer(&mut stream, &mut buffer).await;
                times.push(sent.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
            times
        });
    }
    let mut times: Vec<Duration> = all.join_all().await.into_iter().flatten().collect();
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    Outcome { rate, times }
}

/// The body of one request's answer.
pub(crate) async fn once(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let (start, end) = answer(&mut stream, &mut buffer).await;
    String::from_utf8(buffer[start..end].to_vec()).unwrap()
}

/// Reads one answer, which must be a good one; where its body is.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> (usize, usize) {
    let mut filled = 0;
    let mut end = None;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the connection was closed");
        filled += read;
        if end.is_none()
            && let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..head]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            end = Some((head + 4, head + 4 + length.unwrap()));
        }
        if let Some((start, end)) = end
            && filled >= end
        {
            return (start, end);
        }
    }
}
