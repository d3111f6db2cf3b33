//! A Redis or Valkey of our own, with an append-only file, no eviction and a password.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use guard::{Ending, Guarded, Identity, Signal};

use super::{
    Child, RedisBinary, Service, logs, ports,
    ready::{self, Failure},
    secret,
};

const ENDING: Ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(10), orphaned: Signal::SIGTERM };
const PATIENCE: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 5;

/// A running (or stopped) server. Dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    binary: RedisBinary,
    folder: PathBuf,
    data: PathBuf,
    password: String,
    port: u16,
    process: Child,
}

impl Redis {
    /// Starts the server on the preferred port, or on a free one if that is taken. Its data lies below `data`, named by
    /// flavour and major version, because an older server cannot read a newer one's files. Blocks until it answers.
    ///
    /// # Errors
    /// When it does not start; the end of its log is in the error.
    pub fn start(binary: &RedisBinary, data: &Path, preferred: Option<u16>) -> anyhow::Result<Self> {
        let folder = data.join(format!("{}{}", binary.flavour, binary.major));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut server = Self {
            binary: binary.clone(),
            password: secret::kept(&folder.join("password"))?,
            folder,
            data: data.to_owned(),
            port: ports::free(preferred)?,
            process: Child::default(),
        };
        server.await_predecessor()?;
        for _ in 0..ATTEMPTS {
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(Failure::PortTaken) => server.port = ports::free(None)?,
                Err(Failure::Lingering) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        bail!("no free port for {} after {ATTEMPTS} attempts", binary.flavour)
    }

    /// Its URL with the password, database 0.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.password, self.port)
    }

    /// The port it listens on; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        logs::path(&self.data, "redis")
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Stops it in good order; what it has acknowledged is on disk then. Blocks until it is gone.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Kills it as a crash would. Blocks until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Freezes it, as a stalled machine would, until [`Redis::resume`].
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Ends [`Redis::pause`].
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Starts it again on the same port with the same data. Blocks until it answers.
    ///
    /// # Errors
    /// When it does not start, for instance because another program has taken the port.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        match self.launch() {
            Ok(()) => Ok(()),
            Err(Failure::PortTaken | Failure::Lingering) => bail!("another program has taken port {}", self.port),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// After a `kill -9` of the parent the last server may still be writing its file: waits for it. It changes its command
    /// line, so its working folder tells whether the process is ours.
    fn await_predecessor(&self) -> anyhow::Result<()> {
        let end = Instant::now() + ENDING.grace;
        let note = std::fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        let Ok(process) = note.trim().parse::<u32>() else {
            return Ok(()); // the first start
        };
        let ours = self.folder.canonicalize()?;
        while std::fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|folder| folder == ours) {
            if Instant::now() > end {
                bail!("another {} (process {process}) is using {}; stop it first", self.binary.flavour, ours.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let start = logs::length(&self.log());
        let mut process = self.spawn().map_err(Failure::Other)?;
        let (port, password) = (self.port, self.password.clone());
        let outcome = ready::wait(&self.binary.flavour, &mut process, PATIENCE, &self.log(), start, || {
            answers(port, &password).unwrap_or(false)
        });
        self.process.replace(process);
        outcome
    }

    fn spawn(&self) -> anyhow::Result<Guarded> {
        // In a file, since everybody on the machine can read command lines.
        let settings = self.folder.join("redis.conf");
        secret::write(
            &settings,
            &format!(
                "bind 127.0.0.1\nport {}\nrequirepass {}\ndaemonize no\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
                 maxmemory-policy noeviction\ntcp-keepalive 60\n",
                self.port, self.password
            ),
        )?;
        let log = logs::open(&self.data, "redis")?;
        let mut command = Command::new(&self.binary.program);
        command
            .arg(std::path::absolute(&settings)?)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        let process = guard::spawn(command, ENDING, Identity::Same)
            .with_context(|| format!("cannot start {}", self.binary.program.display()))?;
        std::fs::write(self.folder.join("pid"), process.id().to_string())?;
        Ok(process)
    }
}

impl Service for Redis {
    fn name(&self) -> &str {
        &self.binary.flavour
    }

    fn is_running(&mut self) -> bool {
        Self::is_running(self)
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        Self::start_again(self)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        Self::stop(self)
    }
}

/// Whether the server on this port takes the password and has loaded its data. One that is still loading says so instead.
fn answers(port: u16, password: &str) -> std::io::Result<bool> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.write_all(format!("AUTH {password}\r\nPING\r\n").as_bytes())?;
    let mut lines = BufReader::new(connection).lines();
    let mut next = || lines.next().transpose().map(Option::unwrap_or_default);
    Ok(next()? == "+OK" && next()? == "+PONG")
}
