//! Deliveries of webhooks by real workers to a real receiver.

mod addresses;
mod fairness;
mod faults;
mod ordered;
mod outcomes;
mod signatures;

use harness::{Running, World};

/// Lets webhooks lead to this host and tries three times.
const SETTINGS: [(&str, &str); 3] = [
    ("ATELIER_WEBHOOK_ALLOW_LIST", "127.0.0.1"),
    ("ATELIER_WEBHOOK_SCHEDULE", "100ms,100ms"),
    ("ATELIER_WEBHOOK_TIMEOUT", "1"),
];

/// The arguments of a worker process that only delivers.
const DELIVERIES: [&str; 3] = ["worker", "--pool", "deliveries"];

/// The usual settings with others beside them.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = SETTINGS.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    kept.copied().chain(changes.iter().copied()).collect()
}

/// A worker that delivers.
async fn worker(world: &World) -> Running {
    world.worker_with(&["deliveries"], &SETTINGS).await
}
