//! Mails in a test's world: a server that takes them, and writing them.

use crate::{Running, Tenant, World};
use shared::{letter::Letter, models::NewMail, queue::Hint};
use standalone::services::{MailSink, ports};
use uuid::Uuid;

/// A mail server that keeps what it is sent.
pub fn mail_sink() -> MailSink {
    MailSink::start(None, ports::listen(None).unwrap(), ports::listen(None).unwrap()).unwrap()
}

impl World {
    /// Accepts a mail as whoever has something to tell does: its rows, then a push.
    pub async fn write(&self, from: &Tenant, to: &str, letter: Letter) -> Uuid {
        let (user_id, organization_id) = (from.user, from.organization);
        let mail = NewMail { user_id, organization_id, to: to.to_owned(), letter };
        let hints = NewMail::insert(&mut *self.conn().await, vec![mail]).await.unwrap();
        Hint::push(&hints, &self.redis, &self.prefix).await.unwrap();
        hints[0].ticket.id
    }

    /// Starts a worker inside this process that sends mails by this server, and does not wait long before it tries again.
    pub async fn mail_worker(&self, smtp_url: &str) -> Running {
        let soon = self.mail_retries();
        let changes = [
            ("ATELIER_SMTP_URL", smtp_url),
            ("ATELIER_PUBLIC_URL", "https://atelier.example"),
            ("ATELIER_WORKERS_FILE", &soon),
        ];
        self.worker_with(&["mails"], &changes).await
    }

    /// A workers.toml by which mails are soon tried again.
    pub fn mail_retries(&self) -> String {
        self.workers_file("first_ms = 2_000, max_ms = 3_600_000", "first_ms = 50, max_ms = 400")
    }
}
