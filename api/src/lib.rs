//! The HTTP face of Atelier. It validates, authorises, writes a row, pushes an id, reads rows and relays events; work
//! that takes long is a job, and is done by workers.

mod accounts;
mod addresses;
mod alias;
mod auth;
pub mod cli;
mod config;
mod docs;
mod durations;
mod edge;
mod error;
mod etag;
mod extract;
mod fallback;
mod file_type;
mod file_urls;
mod handlers;
mod idempotency;
mod limits;
mod list;
pub mod live;
mod metering;
mod origin;
mod routes;
mod rules;
mod security;
mod server;
mod socket_io;
mod state;
mod statistics;
mod views;

pub use accounts::NewAccount;
pub use auth::PasswordPolicy;
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
