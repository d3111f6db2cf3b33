//! What the binaries of Atelier must agree on, and would break silently at run time if they did not: the tables and
//! their queries, job kinds and payloads, the event format, the queue, object keys, and how to reach Postgres, Redis
//! and S3. Everything else lives in the binary that needs it.

mod allocator;
mod text_enum;

pub mod addresses;
pub mod config;
pub mod db;
pub mod events;
pub mod grouped;
pub mod kind;
pub mod letter;
pub mod limits;
pub mod llm;
pub mod models;
pub mod monitoring;
pub mod orchestration;
pub mod pipeline;
pub mod presence;
pub mod program;
pub mod queue;
pub mod schedule;
pub mod schema;
pub mod storage;
pub mod telemetry;
pub mod webhook_event;
