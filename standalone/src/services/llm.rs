//! A small language model on this machine: llama.cpp's server with the weights of SmolLM2. It speaks as OpenAI's API does
//! and gives real text of demonstration quality, so that everything can be tried without a key.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    num::NonZeroU8,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use guard::{Ending, Guarded, Identity, Signal};

use super::{
    Child, LocalModel, Service, logs, ports,
    ready::{self, Failure},
};

/// What runs in Python.
const SCRIPT: &str = include_str!("llm.py");
/// It has nothing to save.
const ENDING: Ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(5), orphaned: Signal::SIGKILL };
/// Loading takes a second; on a machine with other work in memory and on the disk, much longer.
const PATIENCE: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 5;
/// The model's name in the server, and in `models/llm.toml`.
const UPSTREAM: &str = "smollm2-135m-instruct";
/// Answers at the same time.
const SLOTS: u32 = 2;
/// Tokens of prompt and answer together, for each of them; as in `models/llm.toml`.
const CONTEXT: u32 = 4096;

/// A running (or stopped) server. Dropping it stops it.
#[derive(Debug)]
pub struct LocalLlm {
    model: LocalModel,
    threads: NonZeroU8,
    data: PathBuf,
    port: u16,
    process: Child,
}

impl LocalLlm {
    /// What people call it.
    pub const NAME: &str = "local model";

    /// Starts the server on the preferred port, or on a free one if that is taken, and does not wait for it: until it has
    /// loaded the model, requests are refused.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn launch(model: LocalModel, threads: NonZeroU8, data: &Path, preferred: Option<u16>) -> anyhow::Result<Self> {
        let data = std::path::absolute(data)?;
        let mut server = Self { model, threads, data, port: ports::free(preferred)?, process: Child::default() };
        let process = server.spawn()?;
        server.process.replace(process);
        Ok(server)
    }

    /// Starts the server on a free port. Blocks until it answers.
    ///
    /// # Errors
    /// When it does not start; the end of its log is in the error.
    pub fn start(model: LocalModel, threads: NonZeroU8, data: &Path) -> anyhow::Result<Self> {
        let data = std::path::absolute(data)?;
        let mut server = Self { model, threads, data, port: ports::free(None)?, process: Child::default() };
        for _ in 0..ATTEMPTS {
            match server.load() {
                Ok(()) => return Ok(server),
                Err(Failure::PortTaken) => server.port = ports::free(None)?,
                Err(Failure::Lingering) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        bail!("no free port for the {} after {ATTEMPTS} attempts", Self::NAME)
    }

    /// Its base URL, with a slash at its end: what `ATELIER_LOCAL_LLM_URL` is set to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/", self.port)
    }

    /// The port it listens on; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        logs::path(&self.data, "local-model")
    }

    /// Kills it as a crash would. Blocks until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    fn load(&mut self) -> Result<(), Failure> {
        let (port, log) = (self.port, self.log());
        let start = logs::length(&log);
        let mut process = self.spawn().map_err(Failure::Other)?;
        let said = format!("ready on port {port}");
        let outcome = ready::wait(Self::NAME, &mut process, PATIENCE, &log, start, || {
            // The log tells whether it is this server that answers, not another that has taken the port.
            logs::since(&log, start).contains(&said) && is_healthy(port).unwrap_or(false)
        });
        self.process.replace(process);
        // The server does not say why it could not listen.
        let taken = || ports::free(Some(port)).is_ok_and(|free| free != port);
        outcome.map_err(|failure| if taken() { Failure::PortTaken } else { failure })
    }

    fn spawn(&self) -> anyhow::Result<Guarded> {
        let folder = self.data.join("local-model");
        let script = folder.join("serve.py");
        let write = || std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&script, SCRIPT));
        write().with_context(|| format!("cannot write {}", script.display()))?;
        let log = logs::open(&self.data, "local-model")?;
        let mut command = Command::new(&self.model.python);
        command
            .args(["-I", "-S"]) // without the machine's packages and settings
            .arg(&script)
            .args([&self.model.package, &self.model.weights])
            .args([UPSTREAM, &self.port.to_string(), &self.threads.to_string()])
            .args([SLOTS.to_string(), CONTEXT.to_string()])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        guard::spawn(command, ENDING, Identity::Same)
            .with_context(|| format!("cannot start {}", self.model.python.display()))
    }
}

impl Service for LocalLlm {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        self.process.stop()?;
        match self.load() {
            Ok(()) => Ok(()),
            Err(Failure::PortTaken | Failure::Lingering) => bail!("another program has taken port {}", self.port),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

/// Whether the server has loaded its model.
fn is_healthy(port: u16) -> std::io::Result<bool> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let mut connection = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.write_all(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
    let mut status = [0; 12]; // HTTP/1.1 200
    connection.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn it_is_the_model_that_the_catalogue_calls_local() {
        let catalogue: toml::Value = toml::from_str(include_str!("../../../models/llm.toml")).unwrap();
        let models = catalogue["model"].as_array().unwrap();
        let local = models.iter().find(|model| model["provider"].as_str() == Some(shared::llm::LOCAL)).unwrap();
        assert_eq!(local["upstream"].as_str(), Some(UPSTREAM));
        assert_eq!(local["context"].as_integer(), Some(i64::from(CONTEXT)));
    }
}
