//! Names of the queue's keys in Redis.
//!
//! All of them carry the same hash tag `{prefix:queue}`, so that a script may touch them together on Redis Cluster.
//! What each key holds is written down in `scripts/prelude.lua`, which names them in the order of [`Keys::all`].

/// The keys of one queue.
#[derive(Debug)]
pub(super) struct Keys {
    all: [String; 9],
}

impl Keys {
    pub(super) fn new(prefix: &str, queue: &str) -> Self {
        let names = ["ready", "delayed", "leases", "jobs", "again", "tags", "clock", "wake", "paused"];
        Self { all: names.map(|name| format!("{{{prefix}:{queue}}}:{name}")) }
    }

    /// Every key, in the order the scripts expect.
    pub(super) fn all(&self) -> &[String] {
        &self.all
    }

    pub(super) fn ready(&self) -> &str {
        &self.all[0]
    }

    pub(super) fn delayed(&self) -> &str {
        &self.all[1]
    }

    pub(super) fn leases(&self) -> &str {
        &self.all[2]
    }

    /// The channel a sleeping worker listens to.
    pub(super) fn wake(&self) -> &str {
        &self.all[7]
    }

    /// There while the queue is paused.
    pub(super) fn paused(&self) -> &str {
        &self.all[8]
    }
}
