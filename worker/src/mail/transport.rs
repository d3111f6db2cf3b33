//! Hands mails to the server, over connections that are kept for the next ones.
//!
//! A connection is put back only after the server has taken a whole mail. One that broke off in the middle, because the
//! job was cancelled or its time was over, is closed: whoever took it next would read answers to questions that the one
//! before had asked.

use super::settings::{MailServer, Security};
use lettre::{
    address::Envelope,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        extension::ClientId,
    },
};
use std::{
    error::Error as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// From the first packet until the server knows who we are.
const CONNECTING: Duration = Duration::from_secs(20);

/// A connection that was kept has to say within this time that it is still good.
const STILL_THERE: Duration = Duration::from_secs(5);

/// Servers end connections that are quiet for some minutes.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Connections kept.
const MOST_KEPT: usize = 8;

/// Why a mail was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not now: the server is away, does not know us, or says so (4xx).
    Later(String),
    /// Never (5xx).
    Bounced(String),
}

/// The way to the mail server.
pub(crate) struct Transport {
    server: MailServer,
    tls: Option<TlsParameters>,
    hello: ClientId,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Transport {
    pub(crate) fn new(server: MailServer) -> Result<Self, Error> {
        let tls = match server.security {
            Security::None => None,
            Security::StartTls | Security::Tls => Some(TlsParameters::new(server.host.clone())?),
        };
        Ok(Self { server, tls, hello: ClientId::default(), kept: Mutex::default() })
    }

    /// Hands over one mail; returns when the server has it. How long that may take is for the caller to say.
    pub(crate) async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<(), Refusal> {
        let mut connection = match self.kept_one().await {
            Some(connection) => connection,
            None => timeout(CONNECTING, self.connect())
                .await
                .map_err(|_| Refusal::Later(format!("no connection within {} s", CONNECTING.as_secs())))?
                // also a 5xx: it is about us, not about this mail
                .map_err(|error| Refusal::Later(words(&error)))?,
        };
        match connection.send(envelope, mail).await {
            Ok(_) => {
                self.keep(connection);
                Ok(())
            }
            Err(error) if error.is_permanent() => Err(Refusal::Bounced(words(&error))),
            // what this server will never be able to take
            Err(error) if error.is_client() => Err(Refusal::Bounced(words(&error))),
            Err(error) => Err(Refusal::Later(words(&error))),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let address = (self.server.host.as_str(), self.server.port);
        let wrapped = self.tls.clone().filter(|_| self.server.security == Security::Tls);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECTING), &self.hello, wrapped, None).await?;
        if self.server.security == Security::StartTls
            && let Some(tls) = self.tls.clone()
        {
            connection.starttls(tls, &self.hello).await?;
        }
        if let Some((user, password)) = &self.server.login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    /// A connection that was kept and is still good.
    async fn kept_one(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let Kept { mut connection, since } = self.lock().pop()?;
            let good = since.elapsed() < KEPT_FOR
                && timeout(STILL_THERE, connection.test_connected()).await.unwrap_or_default();
            if good {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut kept = self.lock();
        if kept.len() < MOST_KEPT {
            kept.push(Kept { connection, since: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's code and words, or what went wrong on the way.
fn words(error: &Error) -> String {
    let mut told = error.status().map_or_else(|| error.to_string(), |code| code.to_string());
    if error.status().is_some()
        && let Some(source) = error.source()
    {
        told = format!("{told} {source}");
    }
    told
}
