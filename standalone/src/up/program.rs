//! One of Atelier's own programs as a child: this same binary with another subcommand.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use guard::{Ending, Identity, Signal};

use crate::services::{Child, Service, logs};

/// Longer than the programs give themselves. When this process dies without a word they are killed: the queue is made for
/// that, while programs without servers would only fill their logs.
const ENDING: Ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(40), orphaned: Signal::SIGKILL };

pub(super) struct Program {
    name: String,
    subcommand: String,
    data: PathBuf,
    environment: Vec<(String, String)>,
    process: Child,
}

impl Program {
    /// A program that is not started yet. Its output goes to a log below `data`.
    pub(super) fn new(name: &str, subcommand: &str, data: &Path, environment: &[(String, String)]) -> Self {
        Self {
            name: name.to_owned(),
            subcommand: subcommand.to_owned(),
            data: data.to_owned(),
            environment: environment.to_vec(),
            process: Child::default(),
        }
    }
}

impl Service for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        let log = logs::open(&self.data, &self.name)?;
        // This file, even if a build has put another in its place since.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("atelier")
            .arg(&self.subcommand)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        let process = guard::spawn(command, ENDING, Identity::Same);
        self.process.replace(process.with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }
}
