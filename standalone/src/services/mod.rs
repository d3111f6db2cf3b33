//! The servers Atelier needs, started without any configuration: PostgreSQL, Redis (or Valkey) and a small language model
//! as guarded child processes, an S3 store and a mail sink inside this process. All listen on 127.0.0.1 only.
//!
//! Both `atelier up` and the tests use this: the one with durable settings and data that stays, the others with fast
//! settings and temporary folders. Functions here block; call them outside of async code or from a blocking thread.

mod child;
pub(crate) mod http;
pub mod index;
pub mod llm;
pub mod logs;
pub mod mail;
pub mod node;
pub mod ports;
pub mod postgres;
mod ready;
pub mod redis;
pub mod s3;
pub mod secret;
pub mod toolbox;
pub mod wheels;

pub(crate) use child::Child;
pub use llm::LocalLlm;
pub use mail::{Mail, MailSink};
pub use node::Node;
pub use postgres::{Durability, Postgres};
pub use redis::Redis;
pub use s3::S3;
pub use toolbox::{LocalModel, PostgresBinaries, RedisBinary, Source, Toolbox};

/// Something that runs as a child process and can be started again: what a supervisor watches.
pub trait Service: Send {
    /// What people call it.
    fn name(&self) -> &str;

    /// Whether its process is there.
    fn is_running(&mut self) -> bool;

    /// Starts it again, where and with what it ran before. Blocks until it is usable.
    ///
    /// # Errors
    /// When it does not start.
    fn start_again(&mut self) -> anyhow::Result<()>;

    /// Stops it in good order. Blocks until it is gone.
    ///
    /// # Errors
    /// When it cannot be stopped.
    fn stop(&mut self) -> anyhow::Result<()>;
}
