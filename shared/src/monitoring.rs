//! A small listener for those who watch over a worker or a scheduler: `/health` and `/metrics`. The API answers these
//! itself, on its own port.

use crate::telemetry::{PrometheusHandle, init_metrics};
use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet, time::interval};

/// Requests answered at a time; more wait in the listener's backlog.
const CONNECTIONS: usize = 32;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `/health` says.
type Health = Arc<dyn Fn() -> Value + Send + Sync>;

/// Installs the recorder of metrics for the whole process and answers until dropped. `health` is the body of `/health`.
///
/// # Errors
/// When the address cannot be listened on, or metrics are recorded elsewhere already.
pub async fn serve(bind: SocketAddr, health: impl Fn() -> Value + Send + Sync + 'static) -> Result<Infallible> {
    let listener = TcpListener::bind(bind).await.with_context(|| format!("{bind} cannot be listened on"))?;
    let metrics = init_metrics()?;
    let health: Health = Arc::new(health);
    let mut connections = JoinSet::new();
    let mut upkeep = interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            // histograms pile up between two scrapes unless somebody folds them
            _ = upkeep.tick() => metrics.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(answer(TokioIo::new(socket), metrics.clone(), Arc::clone(&health)));
                }
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            },
        }
    }
}

async fn answer(io: TokioIo<tokio::net::TcpStream>, metrics: PrometheusHandle, health: Health) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (status, kind, body) = match request.uri().path() {
            "/health" => (StatusCode::OK, "application/json", health().to_string()),
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
