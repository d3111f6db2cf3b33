//! What the tests stand on: real servers, a world of its own for each test, real processes, and a client.
//!
//! The servers (PostgreSQL, Redis, an S3 store) are started once a run, in a folder that the next run clears away. A
//! [`World`] is a database, a Redis prefix and a bucket of its own on them, so that all tests run side by side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at a broken assumption; that is what it is for"
)]

mod client;
mod command;
mod hand;
mod jobs;
mod llm_peer;
mod mails;
mod members;
mod orchestrations;
mod process;
mod questions;
mod receiver;
mod running;
mod servers;
mod streams;
mod webhooks;
mod world;

pub use client::{Answer, Client, Member};
pub use command::Ran;
pub use hand::Hand;
pub use jobs::{Tenant, assert_whole};
pub use llm_peer::{Fault, LlmPeer, PeerCall};
pub use mails::mail_sink;
pub use members::WaitingMail;
pub use process::Process;
pub use questions::Question;
pub use receiver::{Received, Receiver, Reply};
pub use running::{Api, Running, eventually};
pub use servers::{Servers, binary, node, onnxruntime, project_root};
pub use streams::{Events, Socket};
pub use webhooks::{Hook, HookRow, TriedRow};
pub use world::World;
