//! Under which user a child runs.
//!
//! PostgreSQL refuses to run as root, yet in containers and on build machines everything is root. Preferred is a user
//! namespace: outside the child is still root, so nothing has to be handed over, while inside it sees another user. Where
//! namespaces are shut off, the child changes to an ordinary user and keeps only the capability to cross folders it may
//! not read, so that a data folder below `/root` can be reached.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{User, geteuid};

/// The user a child runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user of this process.
    Same,
    /// Root outside, this user inside a namespace of its own. Files stay root's.
    Namespace {
        /// The uid the child sees; it must have a name, which programs look up.
        inner: u32,
    },
    /// Another user. Its folders must be handed over with [`Identity::own`].
    User {
        /// Its uid.
        uid: u32,
        /// Its gid.
        gid: u32,
    },
}

impl Identity {
    /// An identity that is not root: that of this process if it already is none, else a namespace, else another user.
    #[must_use]
    pub fn unprivileged() -> Self {
        if !geteuid().is_root() {
            return Self::Same;
        }
        let inner = ["postgres", "daemon", "nobody"].into_iter().find_map(uid_of);
        match inner {
            Some(inner) if namespaces_work(inner) => Self::Namespace { inner },
            Some(_) | None => Self::ordinary_user(),
        }
    }

    /// The ordinary user to change to where namespaces cannot be had; needs root.
    #[must_use]
    pub fn ordinary_user() -> Self {
        const OVERFLOW_UID: u32 = 65534; // `nobody`, where it has no name
        ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten()).map_or(
            Self::User { uid: OVERFLOW_UID, gid: OVERFLOW_UID },
            |user| Self::User { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
        )
    }

    /// Hands one file or folder over to this identity; nothing to do unless it is another user.
    ///
    /// # Errors
    /// When the owner cannot be changed.
    pub fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Same | Self::Namespace { .. } => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }

    /// Takes the identity on. Called between fork and exec: nothing in here allocates.
    pub(crate) fn assume(self) -> io::Result<()> {
        match self {
            Self::Same => Ok(()),
            Self::Namespace { inner } => enter_namespace(inner),
            Self::User { uid, gid } => change_user(uid, gid),
        }
    }
}

fn uid_of(name: &str) -> Option<u32> {
    let user = User::from_name(name).ok().flatten()?;
    Some(user.uid.as_raw())
}

fn namespaces_work(inner: u32) -> bool {
    let mut probe = Command::new("true");
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: `enter_namespace` allocates nothing and takes no lock.
    unsafe { probe.pre_exec(move || enter_namespace(inner)) };
    probe.status().is_ok_and(|status| status.success())
}

fn enter_namespace(inner: u32) -> io::Result<()> {
    let mut line = [0u8; 24];
    let mut rest = &mut line[..];
    write!(rest, "{inner} 0 1")?;
    let unused = rest.len();
    let map = &line[..line.len() - unused];
    // SAFETY: takes no pointers; the child has one thread, as the call demands.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
        return Err(io::Error::last_os_error());
    }
    write_to("/proc/self/setgroups", b"deny")?;
    write_to("/proc/self/uid_map", map)?;
    write_to("/proc/self/gid_map", map)
}

fn write_to(path: &str, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(bytes)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn change_user(uid: u32, gid: u32) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    const DAC_OVERRIDE: u32 = 1;
    let check = |answer: libc::c_int| match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: plain numbers, and an empty list of groups of length 0.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setgid(gid))?;
        check(libc::setuid(uid))?;
    }
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let bit = 1u32 << DAC_OVERRIDE;
    let none = CapabilitySet { effective: 0, permitted: 0, inheritable: 0 };
    let kept = CapabilitySet { effective: bit, permitted: bit, inheritable: bit };
    let sets = [kept, none];
    // SAFETY: version 3 of the call reads one header and two sets, which is what the pointers lead to. Where it is refused
    // the child goes on without the capability and fails only if it has to cross a folder closed to it.
    unsafe {
        if libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) == 0 {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(DAC_OVERRIDE), 0, 0);
        }
    }
    Ok(())
}
