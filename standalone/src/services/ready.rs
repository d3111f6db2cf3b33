//! Waiting for a server process to be ready.

use std::{
    path::Path,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use guard::Guarded;

use super::logs;

const POLL: Duration = Duration::from_millis(10);

/// How a start went wrong.
pub(crate) enum Failure {
    /// Another program has the port.
    PortTaken,
    /// Sessions of a killed PostgreSQL have not noticed yet; they do within a second or so.
    Lingering,
    /// Anything else, told with the end of the log.
    Other(anyhow::Error),
}

/// Waits until `is_ready` says so. `log` and `start` tell what the process wrote since its start.
pub(crate) fn wait(
    name: &str,
    process: &mut Guarded,
    patience: Duration,
    log: &Path,
    start: u64,
    mut is_ready: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = process.try_wait().map_err(|error| Failure::Other(error.into()))? {
            return Err(ended(name, status, log, start));
        }
        if is_ready() {
            return Ok(());
        }
        if Instant::now() > end {
            let told = logs::since(log, start);
            let late = move || -> anyhow::Result<()> {
                bail!(
                    "{name} was not ready after {} s; its log {} ends with:\n{told}",
                    patience.as_secs(),
                    log.display()
                )
            };
            return late().map_err(Failure::Other);
        }
        thread::sleep(POLL);
    }
}

fn ended(name: &str, status: ExitStatus, log: &Path, start: u64) -> Failure {
    let told = logs::since(log, start);
    if told.contains("Address already in use") {
        return Failure::PortTaken;
    }
    if told.contains("shared memory block") {
        return Failure::Lingering;
    }
    Failure::Other(anyhow::anyhow!("{name} ended at once ({status}); its log {} ends with:\n{told}", log.display()))
}
