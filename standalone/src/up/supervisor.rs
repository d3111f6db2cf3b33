//! Watches children, starts again what dies, stops all in reverse order.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use crate::{
    services::{Service, logs},
    terminal::Terminal,
};

const LOOK: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK_AT_LOGS: Duration = Duration::from_secs(20);
/// After this long the last death is history.
const STABLE: Duration = Duration::from_secs(60);
/// Deaths nobody has asked about yet; beyond this number they are not counted.
const UNREAD: usize = 64;

/// A child that ended by itself.
pub(super) struct Death {
    pub(super) name: String,
}

/// The children in two groups: programs, which are stopped first, and the servers they use.
pub(super) struct Supervisor {
    terminal: Terminal,
    programs: Group,
    servers: Group,
    report: mpsc::Sender<Death>,
    deaths: mpsc::Receiver<Death>,
}

#[derive(Default)]
struct Group {
    watches: JoinSet<()>,
    stop: CancellationToken,
}

impl Supervisor {
    pub(super) fn new(terminal: Terminal) -> Self {
        let (report, deaths) = mpsc::channel(UNREAD);
        Self { terminal, programs: Group::default(), servers: Group::default(), report, deaths }
    }

    /// Watches a server that runs already.
    pub(super) fn watch_server(&mut self, server: Box<dyn Service>) {
        let watch = watch(server, self.terminal.clone(), self.report.clone(), self.servers.stop.clone());
        self.servers.watches.spawn(watch);
    }

    /// Starts a program and watches it.
    pub(super) async fn start_program(&mut self, mut program: impl Service + 'static) -> anyhow::Result<()> {
        let program = spawn_blocking(move || program.start_again().map(|()| program)).await??;
        let stop = self.programs.stop.clone();
        let watch = watch(Box::new(program), self.terminal.clone(), self.report.clone(), stop);
        self.programs.watches.spawn(watch);
        Ok(())
    }

    /// The deaths since the last call.
    pub(super) fn deaths(&mut self) -> Vec<Death> {
        std::iter::from_fn(|| self.deaths.try_recv().ok()).collect()
    }

    /// Waits while the children are watched, and keeps their logs from filling the disk.
    pub(super) async fn forever(&mut self, folder: &Path) -> ! {
        let mut look = tokio::time::interval(LOOK_AT_LOGS);
        loop {
            tokio::select! {
                _ = self.deaths.recv() => {} // said on the terminal already
                _ = look.tick() => {
                    let folder = folder.to_owned();
                    // A log that cannot be shortened now is looked at again.
                    let _ = spawn_blocking(move || logs::shorten(&folder)).await;
                }
            }
        }
    }

    /// Stops the programs, then the servers.
    pub(super) async fn stop(&mut self) {
        for group in [&mut self.programs, &mut self.servers] {
            group.stop.cancel();
            while group.watches.join_next().await.is_some() {}
        }
    }
}

async fn watch(
    mut service: Box<dyn Service>,
    terminal: Terminal,
    report: mpsc::Sender<Death>,
    stop: CancellationToken,
) {
    let mut pauses = Pauses::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        if service.is_running() {
            continue;
        }
        let name = service.name().to_owned();
        let pause = pauses.next(Instant::now());
        terminal.say(format_args!("{name} has ended; starting it again in {:.1} s", pause.as_secs_f64()));
        let _ = report.try_send(Death { name: name.clone() }); // a full list says enough
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let started = spawn_blocking(move || {
            let outcome = service.start_again();
            (service, outcome)
        });
        let Ok((back, outcome)) = started.await else {
            terminal.say(format_args!("{name} cannot be started again"));
            return;
        };
        service = back;
        match outcome {
            Ok(()) => terminal.say(format_args!("{name} is running again")),
            Err(error) => terminal.say(format_args!("{name}: {error:#}")),
        }
    }
    let name = service.name().to_owned();
    let stopped = spawn_blocking(move || service.stop()).await;
    if let Ok(Err(error)) = stopped {
        terminal.say(format_args!("{name} could not be stopped: {error:#}"));
    }
}

/// How long to wait before each start: twice as long each time, until it has been up for a while.
struct Pauses {
    next: Duration,
    last_start: Option<Instant>,
}

impl Pauses {
    fn new() -> Self {
        Self { next: FIRST_PAUSE, last_start: None }
    }

    fn next(&mut self, now: Instant) -> Duration {
        if self.last_start.is_some_and(|start| now.duration_since(start) > STABLE) {
            self.next = FIRST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        self.last_start = Some(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_shrink_after_a_minute_of_health() {
        let mut pauses = Pauses::new();
        let mut now = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..8 {
            let pause = pauses.next(now);
            seen.push(pause.as_secs_f64());
            now += pause;
        }
        assert_eq!(seen, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(pauses.next(now + STABLE + LOOK), FIRST_PAUSE);
    }
}
