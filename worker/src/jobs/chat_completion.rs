//! `chat_completion`: lets a language model answer a conversation.

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use shared::kind::ChatCompletion;

pub(super) async fn run(_reporter: &Reporter<'_>, _job: &ChatCompletion) -> Result<Outcome, Stop> {
    Err(Stop::retry("not_built", "This worker cannot do that yet."))
}
