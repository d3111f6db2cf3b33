//! Starting, watching and stopping one child.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    sync::{
        LazyLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Identity;

/// How often a child that was asked to stop is looked at.
const STOP_POLL: Duration = Duration::from_millis(10);

/// How a child ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Asks it to stop in good order.
    pub stop: Signal,
    /// How long it may take before it is killed.
    pub grace: Duration,
    /// Sent by the kernel when this process dies, even by `kill -9`.
    pub orphaned: Signal,
}

/// A running child. Dropping it stops it, which blocks for at most its grace time.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    ending: Ending,
}

/// Starts `command` as a guarded child in a process group of its own, so that Ctrl-C in the terminal reaches only the
/// parent, which then stops its children in order.
///
/// # Errors
/// When the program cannot be started or the identity cannot be taken on.
pub fn spawn(mut command: Command, ending: Ending, identity: Identity) -> io::Result<Guarded> {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: plain numbers.
        if unsafe { libc::setpgid(0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        identity.assume()?;
        // SAFETY: plain numbers. Last, because a change of user clears it.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, ending.orphaned as libc::c_int) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no arguments. The parent may have died before the line above; then nobody would ever signal us.
        if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: `prepare` makes system calls only: it allocates nothing and takes no lock, so it may run after a fork of a
    // process with many threads.
    unsafe { command.pre_exec(prepare) };
    let child = fork_on_lasting_thread(command)?;
    Ok(Guarded { child, ending })
}

struct Order {
    command: Command,
    answer: SyncSender<io::Result<Child>>,
}

/// The kernel's parent-death signal follows the thread that forked. Threads of a pool come and go; this one stays until
/// the process ends.
static FORKER: LazyLock<io::Result<SyncSender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = sync_channel::<Order>(0);
    thread::Builder::new().name("forker".to_owned()).spawn(move || {
        for mut order in inbox {
            // A caller that no longer waits drops the child unseen; it is still guarded by the kernel.
            let _ = order.answer.send(order.command.spawn());
        }
    })?;
    Ok(orders)
});

fn fork_on_lasting_thread(command: Command) -> io::Result<Child> {
    let forker = FORKER.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let gone = || io::Error::other("the thread that starts children has ended");
    let (answer, result) = sync_channel(1);
    forker.send(Order { command, answer }).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

impl Guarded {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended; never waits.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end. Blocks.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// What the child writes to its standard output, if the command asked for a pipe; once.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends it a signal; one that has ended already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Looking first reaps an ended child, after which its number may belong to another process.
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).map_err(io::Error::from)
    }

    /// Asks it to stop, waits for its grace time, kills it after that. Blocks until it is gone.
    ///
    /// # Errors
    /// When it can neither be signalled nor waited for.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(self.ending.stop)?;
        let end = Instant::now() + self.ending.grace;
        while Instant::now() < end {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(STOP_POLL);
        }
        self.kill()
    }

    /// Kills it without ceremony and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Nobody is left to tell: if it cannot be stopped here, the kernel does it when this process ends.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use std::{io::Read, os::unix::process::ExitStatusExt, process::Stdio};

    use super::*;

    const ENDING: Ending = Ending { stop: Signal::SIGTERM, grace: Duration::from_secs(5), orphaned: Signal::SIGKILL };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    fn output(mut child: Guarded) -> String {
        let mut text = String::new();
        child.stdout().unwrap().read_to_string(&mut text).unwrap();
        text.trim().to_owned()
    }

    #[test]
    fn a_child_forked_from_a_thread_that_ends_lives_on() {
        let mut child =
            thread::spawn(|| spawn(shell("exec sleep 1000"), ENDING, Identity::Same)).join().unwrap().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(child.stop().unwrap().signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn a_deaf_child_is_killed_after_its_grace_time() {
        let ending = Ending { grace: Duration::from_millis(50), ..ENDING };
        let script = "trap '' TERM; echo ready; exec sleep 1000"; // what is ignored stays ignored across exec
        let mut child = spawn(shell(script), ending, Identity::Same).unwrap();
        let mut ready = [0; 5];
        child.stdout().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(child.stop().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn a_child_has_a_process_group_of_its_own() {
        let mut child = spawn(shell("exec sleep 1000"), ENDING, Identity::Same).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        assert_eq!(fields[1], std::process::id().to_string(), "its parent");
        assert_eq!(fields[2], child.id().to_string(), "its group");
        child.kill().unwrap();
    }

    #[test]
    fn an_unprivileged_child_is_not_root() {
        let child = spawn(shell("id -u"), ENDING, Identity::unprivileged()).unwrap();
        assert_ne!(output(child), "0");
    }

    #[test]
    fn another_user_can_cross_a_closed_folder_if_root_started_it() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let closed = std::env::temp_dir().join(format!("guard-closed-{}", std::process::id()));
        let inner = closed.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let identity = Identity::ordinary_user();
        identity.own(&inner).unwrap();
        let script = format!("id -u; touch {0}/file && ls {0}", inner.display());
        let seen = output(spawn(shell(&script), ENDING, identity).unwrap());
        std::fs::remove_dir_all(&closed).unwrap();
        assert!(!seen.starts_with("0\n") && seen.ends_with("file"), "{seen}");
    }

    #[test]
    fn a_missing_program_is_an_error_and_not_a_panic() {
        let missing = Command::new("/no/such/program");
        assert_eq!(spawn(missing, ENDING, Identity::Same).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
