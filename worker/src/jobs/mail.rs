//! `mail`: sends one mail.

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use serde_json::json;
use shared::kind::Mail;

pub(super) async fn run(_reporter: &Reporter<'_>, _mail: &Mail) -> Result<Outcome, Stop> {
    Ok(Outcome::Done(json!({})))
}
