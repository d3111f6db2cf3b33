//! Mail: a letter is put into words (`render`), made a message (`message`) and handed to a mail server (`transport`).

mod message;
mod render;
mod settings;
mod transport;

pub(crate) use transport::Refusal;

pub use settings::{MailServer, Settings};

use anyhow::Context as _;
use lettre::{Address, message::Mailbox};
use message::Head;
use shared::{letter::Letter, models::AddressedMail};
use transport::Transport;
use url::Url;
use uuid::Uuid;

/// Where one POST unsubscribes, below the public URL of the API and before the token.
const UNSUBSCRIBE: &str = "api/v1/mail/unsubscribe/";

/// Sends mails.
pub(crate) struct Mailer {
    transport: Option<Transport>,
    from: Mailbox,
    public_url: Option<Url>,
}

/// What became of a letter.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The mail server has it, under this message id.
    Accepted(String),
    /// There is no mail server.
    NoServer,
}

/// Why a letter was not sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// It cannot be made a mail.
    Unwritable(anyhow::Error),
    /// The server did not take it.
    Refused(Refusal),
}

impl Mailer {
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let transport = settings.server.clone().map(Transport::new).transpose().context("ATELIER_SMTP_URL")?;
        if transport.is_some() && settings.public_url.is_none() {
            tracing::warn!("ATELIER_PUBLIC_URL is not set: notices by mail have no link to unsubscribe");
        }
        Ok(Self { transport, from: settings.from.clone(), public_url: settings.public_url.clone() })
    }

    /// Sends a letter, unless there is no server to send it by.
    pub(crate) async fn send(&self, id: Uuid, mail: &AddressedMail, letter: &Letter) -> Result<Sent, NotSent> {
        let Some(transport) = &self.transport else { return Ok(Sent::NoServer) };
        let unsubscribe = self.unsubscribe_url(mail);
        let message = self.message(id, mail, letter, unsubscribe.as_ref()).map_err(NotSent::Unwritable)?;
        transport.send(message.envelope(), &message.formatted()).await.map_err(NotSent::Refused)?;
        Ok(Sent::Accepted(message::message_id(id, &self.from)))
    }

    fn message(
        &self,
        id: Uuid,
        mail: &AddressedMail,
        letter: &Letter,
        unsubscribe: Option<&Url>,
    ) -> anyhow::Result<lettre::Message> {
        let to: Address = mail.recipient.parse().context("the address is none")?;
        let words = render::words(letter, unsubscribe).context("the templates do not fit the letter")?;
        Ok(message::compose(Head { id, from: &self.from, to, date: mail.created_at, unsubscribe }, words)?)
    }

    fn unsubscribe_url(&self, mail: &AddressedMail) -> Option<Url> {
        let base = self.public_url.as_ref().filter(|_| mail.notice)?;
        let base = Url::parse(&format!("{}/", base.as_str().trim_end_matches('/'))).ok()?;
        base.join(&format!("{UNSUBSCRIBE}{}", mail.unsubscribe_token)).ok()
    }
}

/// The link that somebody waits for, if the letter has one.
pub(crate) fn awaited_link(letter: &Letter) -> Option<&str> {
    render::link(letter).map(|(_, url)| url)
}
