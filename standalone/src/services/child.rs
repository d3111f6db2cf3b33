//! A child process that is there, or not at the moment.

use guard::{Guarded, Signal};

/// The process of a server or program between its starts and stops. Dropping it stops the process.
#[derive(Debug, Default)]
pub(crate) struct Child(Option<Guarded>);

impl Child {
    /// Takes the place of the one before.
    pub(crate) fn replace(&mut self, process: Guarded) {
        self.0 = Some(process);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Stops it in good order. Blocks until it is gone.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.0.take() {
            process.stop()?;
        }
        Ok(())
    }

    /// Kills it as a crash would. Blocks until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.0.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Sends it a signal if it is there.
    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.0.as_mut().map_or(Ok(()), |process| process.signal(signal))?;
        Ok(())
    }
}
