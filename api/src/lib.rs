//! The HTTP face of Atelier. It validates, authorises, writes a row, pushes an id, reads rows and relays events; work
//! that takes long is a job, and is done by workers.

mod alias;
pub mod auth;
pub mod cli;
pub mod config;
mod docs;
mod edge;
pub mod error;
mod extract;
mod fallback;
mod handlers;
pub mod list;
pub mod live;
pub mod routes;
mod security;
mod server;
pub mod state;
mod views;

pub use config::Config;
pub use server::Server;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

/// Runs the API until `shutdown` is cancelled. Needs a multi-threaded tokio runtime.
///
/// # Errors
/// If it cannot start, or the server fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    Server::bind(config).await?.run(shutdown).await
}
