//! `text_generation`: lets a language model go on from a prompt.

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use shared::kind::TextGeneration;

pub(super) async fn run(_reporter: &Reporter<'_>, _job: &TextGeneration) -> Result<Outcome, Stop> {
    Err(Stop::retry("not_built", "This worker cannot do that yet."))
}
