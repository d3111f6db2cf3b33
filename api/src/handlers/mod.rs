//! The handlers, a file for each resource. A handler checks, makes one call and answers.

pub(crate) mod ai;
pub(crate) mod ai_stream;
pub(crate) mod analysis;
pub(crate) mod auth;
mod awaiting;
pub(crate) mod batch;
pub(crate) mod chat;
pub(crate) mod chat_socket;
pub(crate) mod dashboard;
pub(crate) mod docs;
pub(crate) mod images;
pub(crate) mod jobs;
mod model_choice;
mod model_job;
mod model_socket;
pub(crate) mod operations;
pub(crate) mod processing_socket;
pub(crate) mod products;
mod socket;
mod socket_feed;
mod socket_slots;
mod submit;
mod token_stream;
mod upload_form;
pub(crate) mod uploads;
pub(crate) mod usage;
pub(crate) mod users;
