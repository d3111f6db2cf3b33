//! The handlers, a file for each resource. A handler checks, makes one call and answers.

pub(crate) mod analysis;
pub(crate) mod auth;
mod awaiting;
pub(crate) mod batch;
pub(crate) mod dashboard;
pub(crate) mod docs;
pub(crate) mod execution_events;
pub(crate) mod executions;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod operations;
mod pipeline_body;
pub(crate) mod pipeline_runs;
pub(crate) mod pipelines;
pub(crate) mod processing_socket;
pub(crate) mod products;
pub(crate) mod schedules;
mod socket_feed;
mod socket_slots;
mod submit;
mod upload_form;
pub(crate) mod uploads;
pub(crate) mod users;
