//! Real processes of the program under test, to be killed, stopped and continued.

use crate::eventually;
use guard::{Ending, Guarded, Identity, Signal};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};
use tokio::task::block_in_place;

/// A running `atelier api`, `worker` or `scheduler`. Dropping it kills it.
pub struct Process {
    child: Guarded,
    log: PathBuf,
}

impl Process {
    /// Starts `atelier <arguments>` with exactly these settings beside `PATH`.
    #[expect(clippy::disallowed_methods, reason = "PATH is passed on, not read")]
    pub(crate) fn start(arguments: &[&str], settings: &[(String, String)], log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(crate::binary());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(settings.iter().cloned())
            .current_dir(crate::project_root())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(40), orphaned: Signal::SIGKILL };
        let child = guard::spawn(command, ending, Identity::Same).unwrap();
        Self { child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self) {
        block_in_place(|| self.child.kill()).unwrap();
    }

    /// SIGTERM, and its end; says whether it ended well.
    pub fn terminate(&mut self) -> bool {
        block_in_place(|| self.child.stop()).unwrap().success()
    }

    /// SIGSTOP: it does nothing any more, and does not know it.
    pub fn pause(&mut self) {
        self.child.signal(Signal::SIGSTOP).unwrap();
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.child.signal(Signal::SIGCONT).unwrap();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it listens, if it is an API that logs JSON.
    pub async fn address(&self) -> SocketAddr {
        eventually("the API to listen", async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("the API listens"))?;
            serde_json::from_str::<Value>(line).ok()?["address"].as_str()?.parse().ok()
        })
        .await
    }

    /// Its memory in bytes (resident set).
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory it ever had, or since [`Process::forget_peak`], in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Lets the peak begin with what it has now.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may be stopped, and then takes no other signal
        let _ = self.child.kill();
    }
}
