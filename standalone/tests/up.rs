//! `atelier up` as a person uses it: the real program, in a folder and on a port of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use guard::{Ending, Guarded, Identity, Signal};
use standalone::services::ports;

const ENDING: Ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(60), orphaned: Signal::SIGKILL };

struct Up {
    process: Guarded,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Up {
    fn start(data: &Path, options: &[&str]) -> Self {
        let port = ports::free(None).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
        command.args(["up", "--port", &port.to_string(), "--data"]).arg(data).args(options);
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        let mut process = guard::spawn(command, ENDING, Identity::Same).unwrap();
        let lines = BufReader::new(process.stdout().unwrap()).lines();
        Self { process, lines, port }
    }

    /// Reads on until a line contains the text; the lines read.
    fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            read.push_str(&line);
            read.push('\n');
            if line.contains(text) {
                return read;
            }
        }
        panic!("ended without {text:?}:\n{read}");
    }

    fn is_ready(&self) -> bool {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(client.get(format!("http://127.0.0.1:{}/ready", self.port)).send());
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// The children of an `atelier up`: all write to a log in its data folder.
fn children(data: &Path, log: &str) -> Vec<u32> {
    let logs = data.canonicalize().unwrap().join("logs");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let output = fs::read_link(entry.path().join("fd/2")).ok()?;
            (output.starts_with(&logs) && output.to_str()?.contains(log)).then_some(process)
        })
        .collect()
}

fn parent(process: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or_default()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
}

#[test]
fn the_tour_shows_a_real_analysis_and_a_second_start_knows_the_user() {
    let data = tempfile::tempdir().unwrap();
    for greeting in ["registered demo@", "logged in as demo@"] {
        let mut up = Up::start(data.path(), &["--once", "--servers", "wheels"]);
        let shown = up.read_until("stopped; all data are kept");
        assert!(up.process.wait().unwrap().success(), "{shown}");
        for part in [greeting, "Valkey 9", "PostgreSQL 18", "espresso", "brown", "efficientnet"] {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
        assert_eq!(children(data.path(), ""), Vec::<u32>::new());
    }
}

#[test]
fn what_dies_is_started_again_and_a_kill_leaves_nothing_behind() {
    install_tls();
    let data = tempfile::tempdir().unwrap();
    let mut up = Up::start(data.path(), &["--no-tour", "--workers", "2"]);
    up.read_until("Serving until Ctrl-C");
    let own = up.process.id();
    let direct = |log: &str| children(data.path(), log).into_iter().find(|process| parent(*process) == own);
    for (log, name) in [("worker-2", "worker-2"), ("api", "api"), ("redis", ""), ("postgres", "PostgreSQL")] {
        let victim = direct(log).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).unwrap();
        up.read_until(&format!("{name} is running again"));
        assert_ne!(direct(log).unwrap(), victim);
    }
    eventually("ready again", || up.is_ready());

    assert_eq!(up.process.kill().unwrap().signal(), Some(Signal::SIGKILL as i32));
    eventually("all children are gone", || children(data.path(), "").is_empty());

    // What the kill left behind does not stand in the way.
    let mut up = Up::start(data.path(), &["--no-tour"]);
    up.read_until("Serving until Ctrl-C");
    assert!(up.is_ready());
    up.process.signal(Signal::SIGTERM).unwrap();
    up.read_until("stopped; all data are kept");
    assert!(up.process.wait().unwrap().success());
    assert_eq!(children(data.path(), ""), Vec::<u32>::new());
}

#[test]
fn a_second_start_in_the_same_folder_or_on_the_same_port_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let lock = fs::File::create(data.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_atelier")).args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let port = ports::free(None).unwrap().to_string();
    let folder = data.path().to_str().unwrap();
    let told = refused(&["up", "--data", folder, "--port", &port]);
    assert!(told.contains("another `atelier up` is using") && told.contains("--data"), "{told}");

    let taken = ports::listen(None).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let told = refused(&["up", "--data", folder, "--port", &port]);
    assert!(told.contains(&format!("port {port} is in use")) && told.contains("--port"), "{told}");
}
