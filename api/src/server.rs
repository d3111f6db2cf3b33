//! Starting and stopping: the listening socket, the app of each thread, and the order in which things end.

use crate::{
    auth::{admit, uses},
    config::Config,
    edge::edge,
    error::ApiError,
    fallback::{Allowed, fallback},
    handlers::docs::Documents,
    idempotency::idempotent,
    limits::limit,
    routes,
    security::cors,
    socket_io::SocketIo,
    state::State,
    statistics::{keep_looking, keep_writing},
};
use actix_web::{
    App, HttpServer,
    dev::Server as HttpServerHandle,
    error::{PathError, QueryPayloadError},
    middleware::{Condition, from_fn},
    web,
};
use anyhow::{Context, Result};
use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use utoipa_actix_web::AppExt;

/// How often histograms are folded, so that samples do not pile up when nobody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// An API that listens and waits to be run.
pub struct Server {
    address: SocketAddr,
    server: HttpServerHandle,
    state: web::Data<State>,
    socket_io: web::Data<SocketIo>,
}

impl Server {
    /// Prepares everything and starts to listen; requests are answered once [`Server::run`] runs.
    ///
    /// # Errors
    /// If the address is taken or a setting cannot be used. Postgres, Redis and the store may be away.
    pub async fn bind(config: Config) -> Result<Self> {
        let listener = TcpListener::bind(config.bind).with_context(|| format!("cannot listen on {}", config.bind))?;
        let address = listener.local_addr()?;
        let (threads, grace) = (config.threads, config.shutdown_grace);
        let state = web::Data::new(spawn_blocking(move || State::new(config)).await??);
        let document = routes::document();
        let allowed = web::Data::new(Allowed::new(&document));
        let documents = web::Data::new(Documents::new(&document)?);
        let socket_io = web::Data::new(SocketIo::new(&state));
        let (app_state, app_socket_io) = (state.clone(), socket_io.clone());
        let server = HttpServer::new(move || {
            let has_cors = !app_state.config.cors_origins.is_empty();
            App::new()
                .app_data(app_state.clone())
                .app_data(app_socket_io.clone())
                .app_data(allowed.clone())
                .app_data(documents.clone())
                .app_data(web::PathConfig::default().error_handler(|error, _| bad_path(&error).into()))
                .app_data(web::QueryConfig::default().error_handler(|error, _| bad_query(&error).into()))
                .into_utoipa_app()
                .configure(routes::routes)
                .into_app()
                .default_service(web::to(fallback))
                .wrap(from_fn(idempotent))
                .wrap(from_fn(admit))
                .wrap(from_fn(limit))
                .wrap(Condition::new(has_cors, cors(&app_state.config)))
                .wrap(from_fn(edge))
        })
        .workers(threads)
        .backlog(BACKLOG)
        // a token or a frame is small and is not to wait for the next one
        .tcp_nodelay(true)
        .shutdown_timeout(grace.as_secs().max(1))
        .disable_signals()
        .listen(listener)
        .context("cannot listen")?
        .run();
        Ok(Self { address, server, state, socket_io })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is cancelled, then finishes those in work.
    ///
    /// # Errors
    /// If the server stops for another reason.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { address, server, state, socket_io } = self;
        let handle = server.handle();
        let mut background = JoinSet::new();
        background.spawn(state.live.clone().run(state.shutdown.clone()));
        background.spawn(socket_io.into_inner().run(state.clone()));
        background.spawn(fold_metrics(state.clone()));
        background.spawn(uses::keep_writing(state.clone()));
        background.spawn(keep_writing(state.clone()));
        background.spawn(keep_looking(state.clone()));
        // ends after everybody who asks it
        let mut lookups = JoinSet::new();
        lookups.spawn(state.identities.run());
        lookups.spawn(state.feeds.run());
        let stopping = state.clone();
        background.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => stopping.shutdown.cancel(),
                () = stopping.shutdown.cancelled() => {}
            }
            stopping.drain();
            let grace = stopping.config.shutdown_grace;
            let ended = async {
                stopping.requests.wait().await;
                stopping.sockets.wait().await;
            };
            let in_time = timeout(grace, ended).await.is_ok();
            if !in_time {
                tracing::warn!(grace_s = grace.as_secs(), "some requests did not finish in time");
            }
            // now: many connections to PostgreSQL end with the threads that made them
            stopping.identities.uses.write(&stopping.pool).await;
            stopping.answered.write(&stopping.pool).await;
            handle.stop(in_time).await;
        });
        tracing::info!(%address, "the API listens");
        let ended = server.await.context("the HTTP server failed");
        state.shutdown.cancel();
        background.join_all().await;
        lookups.shutdown().await;
        tracing::info!("the API has stopped");
        ended
    }
}

async fn fold_metrics(state: web::Data<State>) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    loop {
        tokio::select! {
            _ = ticks.tick() => state.metrics.run_upkeep(),
            () = state.shutdown.cancelled() => return,
        }
    }
}

/// An id in a path that is no id names nothing.
fn bad_path(_: &PathError) -> ApiError {
    ApiError::not_found("Resource")
}

fn bad_query(error: &QueryPayloadError) -> ApiError {
    ApiError::new(crate::error::Code::Validation, format!("The query is not valid: {error}"))
}
