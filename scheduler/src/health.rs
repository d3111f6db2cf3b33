//! A small listener for those who watch over the scheduler: `/health` and `/metrics`.

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::telemetry::PrometheusHandle;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time::interval};

/// Requests answered at a time; more wait in the listener's backlog.
const CONNECTIONS: usize = 32;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether this process leads, for `/health`.
pub(crate) type Leading = Arc<AtomicBool>;

/// Answers until dropped.
pub(crate) async fn serve(bind: SocketAddr, metrics: PrometheusHandle, leading: Leading) -> Result<Infallible> {
    let listener = TcpListener::bind(bind)
        .await
        .with_context(|| format!("ATELIER_SCHEDULER_BIND: {bind} cannot be listened on"))?;
    let mut connections = JoinSet::new();
    let mut upkeep = interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            // histograms pile up between two scrapes unless somebody folds them
            _ = upkeep.tick() => metrics.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(answer(TokioIo::new(socket), metrics.clone(), Arc::clone(&leading)));
                }
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            },
        }
    }
}

async fn answer(io: TokioIo<tokio::net::TcpStream>, metrics: PrometheusHandle, leading: Leading) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (status, kind, body) = match request.uri().path() {
            "/health" => {
                let body = serde_json::json!({
                    "status": "healthy",
                    "version": env!("CARGO_PKG_VERSION"),
                    "leader": leading.load(Ordering::Relaxed),
                });
                (StatusCode::OK, "application/json", body.to_string())
            }
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", metrics.render()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "There are /health and /metrics here.\n".to_owned()),
        };
        let response = Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(Bytes::from(body)));
        async { response }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(io, service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection to the health listener ended early: {error}");
    }
}
