//! What a replica notices of its own work: how fast it answers whom, and how busy its machine is.

mod machine;
mod requests;
mod times;

pub(crate) use machine::{Load, Machine, keep_looking};
pub(crate) use requests::{Requests, keep_writing};
pub(crate) use times::{Times, merged};
