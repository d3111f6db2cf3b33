//! How busy the machine is that answers. It is looked at in the background, since asking the system takes its time.

use crate::state::State;
use actix_web::web;
use anyhow::{Context, Result};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use sysinfo::{
    CGroupLimits, DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, Pid, ProcessRefreshKind, ProcessesToUpdate,
    System, get_current_pid,
};
use tokio::{task::spawn_blocking, time::sleep};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Per cent of what there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// Of all processors, since the look before.
    pub(crate) cpu: f64,
    /// Of the memory that the process may have at most, if it is limited, else of all.
    pub(crate) memory: f64,
    /// Of the file system that the process runs in.
    pub(crate) disk: f64,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Machine(Mutex<Load>);

impl Machine {
    pub(crate) fn load(&self) -> Load {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, load: Load) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }
}

/// What looks.
struct Eye {
    system: System,
    pid: Option<Pid>,
}

impl Eye {
    fn new() -> Result<Self> {
        let mut system = System::new().context("the system tells nothing of itself")?;
        // the use of processors is what changes between two looks
        system.refresh_cpu_usage();
        Ok(Self { system, pid: get_current_pid().ok() })
    }

    fn look(&mut self) -> Load {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        Load {
            cpu: f64::from(self.system.global_cpu_usage()).clamp(0.0, 100.0),
            memory: self.memory(),
            disk: disk().unwrap_or_default(),
        }
    }

    fn memory(&mut self) -> f64 {
        let (total, used) = (self.system.total_memory(), self.system.used_memory());
        match self.limits() {
            Some(CGroupLimits { total_memory, rss, .. }) if total_memory < total => share(rss, total_memory),
            Some(_) | None => share(used, total),
        }
    }

    fn limits(&mut self) -> Option<CGroupLimits> {
        let own = self.pid.and_then(|pid| {
            let own = ProcessesToUpdate::Some(&[pid]);
            self.system.refresh_processes_specifics(own, false, ProcessRefreshKind::nothing());
            self.system.process(pid)?.cgroup_limits()
        });
        own.or_else(|| self.system.cgroup_limits())
    }
}

/// The file system of the working directory is the one that is mounted nearest above it.
fn disk() -> Option<f64> {
    let folder = std::env::current_dir().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok()?;
    let above = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()) && disk.total_space() > 0);
    let disk = above.max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    Some(share(disk.total_space().saturating_sub(disk.available_space()), disk.total_space()))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).clamp(0.0, 100.0) }
}

/// Looks again and again.
pub(crate) async fn keep_looking(state: web::Data<State>) {
    let watch = async {
        let mut eye = spawn_blocking(Eye::new).await.context("it was given up").flatten()?;
        let mut pause = MINIMUM_CPU_UPDATE_INTERVAL;
        loop {
            sleep(pause).await;
            let load;
            (eye, load) = spawn_blocking(move || {
                let load = eye.look();
                (eye, load)
            })
            .await?;
            state.machine.note(load);
            pause = EVERY;
        }
    };
    let watched: Result<()> = tokio::select! {
        watched = watch => watched,
        () = state.shutdown.cancelled() => Ok(()),
    };
    if let Err(error) = watched {
        tracing::warn!("how busy the machine is cannot be told: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn what_is_seen_is_a_share_of_what_there_is() {
        let load = Eye::new().unwrap().look();
        assert!((0.0..=100.0).contains(&load.cpu), "{load:?}");
        assert!(load.memory > 0.0 && load.memory <= 100.0, "{load:?}");
        assert!(load.disk > 0.0 && load.disk <= 100.0, "{load:?}");
        assert!(share(1, 0) == 0.0 && share(1, 4) == 25.0 && share(5, 4) == 100.0);
    }
}
