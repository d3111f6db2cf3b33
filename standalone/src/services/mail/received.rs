//! One received mail, and what can be read in it.

use mail_parser::{Message, MessageParser};

/// The envelope is kept in headers of these names in front of the mail itself.
const SENDER: &str = "X-Envelope-From: ";
const RECIPIENT: &str = "X-Envelope-To: ";

/// One received mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Counts from 1 in the order of arrival.
    pub number: u64,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body as they were sent, without the dots SMTP adds.
    pub data: String,
}

impl Mail {
    /// A header of the mail, empty if it has none of this name. Folded lines are joined, encoded words stay encoded.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let found = self.headers().into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).unwrap_or_default()
    }

    /// All headers of the mail, in their order, as [`Mail::header`] gives them.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let pairs = unfolded.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// The subject, as people read it.
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed(|message| message.subject().map(ToOwned::to_owned)).unwrap_or_default()
    }

    /// The part that is plain text; empty if there is none.
    #[must_use]
    pub fn text(&self) -> String {
        // a mail with HTML alone has this text made of it
        self.parsed(|message| message.body_text(0).map(|text| text.replace("\r\n", "\n"))).unwrap_or_default()
    }

    /// The part that is HTML, if there is one.
    #[must_use]
    pub fn html(&self) -> Option<String> {
        self.parsed(|message| {
            let part = message.html_part(0).filter(|part| part.is_text_html())?;
            part.text_contents().map(ToOwned::to_owned)
        })
    }

    fn parsed<T>(&self, read: impl FnOnce(&Message<'_>) -> Option<T>) -> Option<T> {
        MessageParser::default().parse(self.data.as_bytes()).and_then(|message| read(&message))
    }

    pub(super) fn to_file(&self) -> String {
        let recipients: String = self.to.iter().map(|to| format!("{RECIPIENT}{to}\r\n")).collect();
        format!("{SENDER}{}\r\n{recipients}{}", self.from, self.data)
    }

    pub(super) fn from_file(number: u64, text: &str) -> Self {
        let mut mail = Self { number, ..Self::default() };
        let mut rest = text;
        while let Some((line, after)) = rest.split_once("\r\n") {
            if let Some(from) = line.strip_prefix(SENDER) {
                from.clone_into(&mut mail.from);
            } else if let Some(to) = line.strip_prefix(RECIPIENT) {
                mail.to.push(to.to_owned());
            } else {
                break;
            }
            rest = after;
        }
        rest.clone_into(&mut mail.data);
        mail
    }
}
