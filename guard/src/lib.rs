//! Process control for the one-command mode and the tests: children that cannot outlive their parent, that give up root
//! where the program insists on it, and that are stopped politely first.
//!
//! Linux offers `PR_SET_PDEATHSIG`: the kernel signals a child when its parent dies, however it dies. Three traps are
//! handled here once. It fires when the *thread* that forked ends, so all children are forked by one thread that lives as
//! long as the process. A change of user clears it, so it is set last. And the parent may die before it is set, so the
//! child looks once more whether its parent is still there.

mod identity;
mod process;
mod socket;

pub use identity::Identity;
pub use nix::sys::signal::Signal;
pub use process::{Ending, Guarded, spawn};
pub use socket::acknowledge_at_once;
