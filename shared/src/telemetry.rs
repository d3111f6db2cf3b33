//! Logs and metrics, set up the same way in every binary.

use crate::config;
use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use std::sync::{Mutex, PoisonError};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use metrics_exporter_prometheus::PrometheusHandle;

/// Bounds of the histograms of durations, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Starts logging to standard output.
pub fn init_logs(settings: &config::Telemetry) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .with_context(|| format!("ATELIER_LOG: {:?} is no tracing filter", settings.filter))?
        // it logs what providers answer, and some repeat the key or the prompt; we log each failed call ourselves
        .add_directive("genai=off".parse()?)
        // these log what goes over the wire: the values of every statement, and whole mails with the links in them
        .add_directive("tokio_postgres=info".parse()?)
        .add_directive("lettre=info".parse()?);
    let lines = if settings.json {
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).boxed()
    } else {
        tracing_subscriber::fmt::layer().compact().with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().context("logging is already set up")
}

/// Starts counting; the handle renders the Prometheus text of everything counted since. A process has one recorder: when
/// several parts of the system run in it, the later ones get the handle of the first.
pub fn init_metrics() -> Result<PrometheusHandle> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*recorder {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()
        .context("metrics are already set up")?;
    Ok(recorder.insert(handle).clone())
}
