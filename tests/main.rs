//! Integration tests over real servers and real processes: a file an area.

mod analysis;
mod arrows;
mod attempts;
mod auth;
mod contract;
mod crashes;
mod deployment;
mod docs;
mod foreign_ids;
mod lists;
mod live;
mod llm_calls;
mod operations;
mod pipeline_models;
mod pipeline_runs;
mod postgres_outages;
mod processing_socket;
mod products;
mod queue;
mod redis_outages;
mod scheduler;
mod schema;
mod throughput;
mod uploads;
mod vision;
