//! A mail as it goes over the wire: headers, and the two parts.

use super::render::Words;
use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    error::Error,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use url::Url;
use uuid::Uuid;

/// What is in the headers, beside the subject.
pub(super) struct Head<'a> {
    /// The job: a mail that is sent twice, because nobody could say whether the first time had worked, can be told by it.
    pub(super) id: Uuid,
    pub(super) from: &'a Mailbox,
    pub(super) to: Address,
    pub(super) date: DateTime<Utc>,
    /// Where one POST unsubscribes.
    pub(super) unsubscribe: Option<&'a Url>,
}

/// The name by which mail servers and mail programs know the mail of a job.
pub(super) fn message_id(id: Uuid, from: &Mailbox) -> String {
    format!("<{id}@{}>", from.email.domain())
}

pub(super) fn compose(head: Head<'_>, words: Words) -> Result<Message, Error> {
    let mut message = Message::builder()
        .from(head.from.clone())
        .to(Mailbox::new(None, head.to))
        .subject(words.subject)
        .date(head.date.into())
        .message_id(Some(message_id(head.id, head.from)))
        .raw_header(plain("Auto-Submitted", "auto-generated".to_owned()));
    if let Some(url) = head.unsubscribe {
        message = message
            .raw_header(plain("List-Unsubscribe", format!("<{url}>")))
            .raw_header(plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }
    message.multipart(MultiPart::alternative_plain_html(words.text, words.html))
}

/// A header that is ASCII without line breaks, as URLs and our own words are; encoded or folded, it would not be understood
/// everywhere.
fn plain(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.clone(), value)
}
