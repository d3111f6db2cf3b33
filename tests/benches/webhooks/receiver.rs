//! A receiver that answers 200 at once and notes which delivery came when.

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::{net::TcpListener, task::JoinSet};
use uuid::Uuid;

/// First arrivals, by `webhook-id`.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<HashMap<Uuid, Instant>>>);

impl Arrivals {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn take(&self) -> HashMap<Uuid, Instant> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, request: &Request<hyper::body::Incoming>) {
        let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()?.parse().ok());
        if let Some(id) = id {
            self.0.lock().unwrap().entry(id).or_insert_with(Instant::now);
        }
    }
}

/// Starts it, on threads of its own; it serves as long as the bench runs. Returns its URL.
pub(crate) fn start() -> (String, Arrivals) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let arrivals = Arrivals::default();
    let noted = arrivals.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { serve(TcpListener::from_std(listener).unwrap(), noted).await });
    });
    (url, arrivals)
}

async fn serve(listener: TcpListener, arrivals: Arrivals) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let arrivals = arrivals.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            arrivals.note(&request);
            async move {
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        connections.spawn(async move {
            // a connection that breaks off concerns only its client
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
