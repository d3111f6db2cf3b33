//! A PostgreSQL cluster of our own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use guard::{Ending, Guarded, Identity, Signal};

use super::{
    Child, PostgresBinaries, Service, logs, ports,
    ready::{self, Failure},
    secret,
};

/// SIGINT is PostgreSQL's "fast shutdown": sessions are ended, everything is written, the cluster is closed.
const ENDING: Ending = Ending { stop: Signal::SIGINT, grace: Duration::from_secs(30), orphaned: Signal::SIGINT };
const INITDB_ENDING: Ending =
    Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(5), orphaned: Signal::SIGKILL };
/// Long enough for the recovery after a crash.
const PATIENCE: Duration = Duration::from_secs(120);
const ATTEMPTS: usize = 10;
/// Between attempts, while sessions of a killed server end.
const LINGER: Duration = Duration::from_millis(500);
const MAX_CONNECTIONS: u32 = 300;
const SUPERUSER: &str = "atelier";

/// What a crash of the machine may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a commit is on disk before it is acknowledged.
    Durable,
    /// Everything; several times faster. For tests.
    Fast,
}

/// A running (or stopped) server. Dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    binaries: PostgresBinaries,
    data: PathBuf,
    cluster: PathBuf,
    durability: Durability,
    identity: Identity,
    password: String,
    port: u16,
    process: Child,
}

impl Postgres {
    /// Starts the server on the preferred port, or on a free one if that is taken. The cluster lies below `data`, named
    /// by its major version, and is made at the first start. Blocks until it takes connections.
    ///
    /// # Errors
    /// When the cluster cannot be made or does not start; the end of its log is in the error.
    pub fn start(
        binaries: &PostgresBinaries,
        data: &Path,
        durability: Durability,
        preferred: Option<u16>,
    ) -> anyhow::Result<Self> {
        Self::start_as(binaries, data, durability, preferred, Identity::unprivileged())
    }

    /// [`Postgres::start`] under a given identity, which must not be root.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub fn start_as(
        binaries: &PostgresBinaries,
        data: &Path,
        durability: Durability,
        preferred: Option<u16>,
        identity: Identity,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
        let data = data.canonicalize()?;
        let name = format!("pg{}", binaries.major);
        let mut server = Self {
            binaries: binaries.clone(),
            cluster: data.join(&name),
            password: secret::kept(&data.join(format!("{name}.password")))?,
            durability,
            identity,
            port: ports::free(preferred)?,
            process: Child::default(),
            data,
        };
        if !server.cluster.exists() {
            server.make_cluster()?;
        }
        server.await_predecessor()?;
        for _ in 0..ATTEMPTS {
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(Failure::PortTaken) => server.port = ports::free(None)?,
                Err(Failure::Lingering) => thread::sleep(LINGER),
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        bail!("PostgreSQL did not start in {ATTEMPTS} attempts; see {}", server.log().display())
    }

    /// The URL of a database in it, as its superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port it listens on; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        logs::path(&self.data, "postgres")
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Stops it in good order. Blocks until it is gone.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Kills it as a crash would. Its sessions notice and end by themselves a moment later.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port with the same data. Blocks until it takes connections.
    ///
    /// # Errors
    /// When it does not start, for instance because another program has taken the port.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.await_predecessor()?;
        for _ in 0..ATTEMPTS {
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(Failure::PortTaken) => bail!("another program has taken port {}", self.port),
                Err(Failure::Lingering) => thread::sleep(LINGER),
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        bail!("sessions of the killed PostgreSQL do not end; see {}", self.log().display())
    }

    /// Made under another name and renamed when complete, so that an interrupted first start leaves nothing half-made.
    fn make_cluster(&self) -> anyhow::Result<()> {
        let unfinished = self.cluster.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished); // of an interrupted start; what is wrong with it shows below
        fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        let password_file = self.cluster.with_extension("initial-password");
        secret::write(&password_file, &self.password)?;
        for path in [&unfinished, &password_file] {
            self.identity.own(path)?;
        }
        let start = logs::length(&self.log());
        let log = logs::open(&self.data, "postgres")?;
        let mut command = self.command("initdb");
        command
            .arg("--pgdata")
            .arg(&unfinished)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8"])
            // Byte order sorts fast and the same everywhere; the character type still knows upper and lower case beyond ASCII.
            .args(["--lc-collate", "C", "--lc-ctype", "C.UTF-8", "--lc-messages", "C"])
            .stderr(log.try_clone()?)
            .stdout(log);
        if self.durability == Durability::Fast {
            command.arg("--no-sync");
        }
        let status = guard::spawn(command, INITDB_ENDING, self.identity)
            .with_context(|| format!("cannot start initdb in {}", self.binaries.folder.display()))?
            .wait()?;
        fs::remove_file(&password_file)?;
        if !status.success() {
            bail!("initdb failed ({status}):\n{}", logs::since(&self.log(), start));
        }
        fs::rename(&unfinished, &self.cluster)?;
        Ok(())
    }

    /// After a `kill -9` the last server may still be shutting down: waits for it. A lock file whose process is gone, or is
    /// another program by now, is removed.
    fn await_predecessor(&self) -> anyhow::Result<()> {
        let lock = self.cluster.join("postmaster.pid");
        let end = Instant::now() + ENDING.grace;
        while let Ok(text) = fs::read_to_string(&lock) {
            let process = text.lines().next().unwrap_or_default().trim().to_owned();
            if !runs_on(&process, &self.cluster) {
                let _ = fs::remove_file(&lock); // the server removes its own when it ends: either way it is gone
                break;
            }
            if Instant::now() > end {
                bail!(
                    "another PostgreSQL (process {process}) is using {}; stop it or give another --data",
                    self.cluster.display()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let start = logs::length(&self.log());
        let mut process = self.spawn().map_err(Failure::Other)?;
        let lock = self.cluster.join("postmaster.pid");
        // The eighth line of the lock file is the server's own word on its state.
        let outcome = ready::wait("PostgreSQL", &mut process, PATIENCE, &self.log(), start, || {
            fs::read_to_string(&lock).is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready"))
        });
        self.process.replace(process);
        outcome
    }

    fn spawn(&self) -> anyhow::Result<Guarded> {
        let log = logs::open(&self.data, "postgres")?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.cluster);
        // No Unix socket: its path may not be longer than 107 bytes, and a project folder may be.
        command.args(["-h", "127.0.0.1", "-k", "", "-p", &self.port.to_string()]);
        let max_connections = format!("max_connections={MAX_CONNECTIONS}");
        let mut settings =
            vec![max_connections.as_str(), "shared_buffers=128MB", "logging_collector=off", "log_min_messages=warning"];
        match self.durability {
            Durability::Durable => settings.extend(["fsync=on", "synchronous_commit=on", "full_page_writes=on"]),
            Durability::Fast => settings.extend([
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
                "wal_level=minimal",
                "max_wal_senders=0",
                "max_wal_size=4GB",
            ]),
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.stderr(log.try_clone()?).stdout(log);
        guard::spawn(command, ENDING, self.identity)
            .with_context(|| format!("cannot start postgres in {}", self.binaries.folder.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.folder.join(program));
        // The folder this process was started in may be closed to the identity the server takes on.
        command.current_dir("/").stdin(Stdio::null());
        // Settings of the person's own databases must not leak into this cluster.
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command.env("TZ", "UTC").env("LC_ALL", "C");
        command
    }
}

impl Service for Postgres {
    fn name(&self) -> &str {
        "PostgreSQL"
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

/// Whether the process is a server of this cluster. Process numbers are used again, so its command line decides.
fn runs_on(process: &str, cluster: &Path) -> bool {
    if process.is_empty() || !process.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let cluster = cluster.as_os_str().as_encoded_bytes();
    arguments.split(|byte| *byte == 0).any(|argument| argument == cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_something_else_is_no_predecessor() {
        let own = std::process::id().to_string();
        assert!(!runs_on(&own, Path::new("/some/cluster")));
        assert!(!runs_on("", Path::new("/some/cluster")));
        assert!(!runs_on("../1", Path::new("/some/cluster")));
    }
}
