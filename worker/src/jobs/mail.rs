//! `mail`: sends one mail.
//!
//! A server that is away, or says "not now", is tried again by the backoff of the pool. One that was killed after the
//! server had taken the mail sends it once more, under the same Message-ID.

use crate::{
    mail::{NotSent, Refusal, Sent, awaited_link},
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use chrono::Utc;
use serde_json::json;
use shared::{
    kind::Mail,
    letter::Letter,
    models::{AddressedMail, Failure},
};

pub(super) async fn run(reporter: &Reporter<'_>, mail: &Mail) -> Result<Outcome, Stop> {
    let Some(letter) = &mail.letter else { return Ok(fail("letter_gone", "What the mail said is forgotten already.")) };
    if letter.expires_at().is_some_and(|until| until < Utc::now()) {
        return Ok(fail("letter_expired", "By now the link in the mail leads nowhere."));
    }
    let context = reporter.context;
    let addressed = AddressedMail::get(&mut *context.pool.get().await?, reporter.job_id).await?;
    if !addressed.wanted {
        return Ok(Outcome::Done(json!({ "sent": false, "reason": "unsubscribed" })));
    }
    match context.mailer.send(reporter.job_id, &addressed, letter).await {
        Ok(Sent::Accepted(message_id)) => Ok(Outcome::Done(json!({ "sent": true, "message_id": message_id }))),
        Ok(Sent::NoServer) => {
            write_to_log(&addressed, letter);
            Ok(Outcome::Done(json!({ "sent": false, "reason": "no_mail_server" })))
        }
        Err(NotSent::Unwritable(error)) => Ok(fail("mail_unwritable", &format!("{error:#}"))),
        Err(NotSent::Refused(Refusal::Later(words))) => Err(Stop::retry("mail_server_unavailable", words)),
        Err(NotSent::Refused(Refusal::Bounced(words))) => Ok(fail("bounced", &words)),
    }
}

fn fail(code: &str, message: &str) -> Outcome {
    Outcome::Fail { failure: Failure { code: code.to_owned(), message: message.to_owned() }, result: None }
}

/// Without a mail server, the log is where an operator finds the links that somebody waits for.
fn write_to_log(addressed: &AddressedMail, letter: &Letter) {
    let (to, template) = (addressed.recipient.as_str(), letter.template());
    match awaited_link(letter) {
        Some(link) => tracing::warn!(to, template, link, "no mail server: pass this link on"),
        None => tracing::info!(template, "no mail server: a mail is dropped"),
    }
}
