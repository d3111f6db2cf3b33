//! A mail server that delivers nothing: it keeps what it is sent, for tests to wait for and for people to read in a
//! browser. Mail to `bounce@…` is refused, as a receiver would refuse an unknown mailbox; mail to `later@…` is taken the
//! second time only, as by a receiver that waits whether the sender comes again.

mod page;
mod received;
mod smtp;
mod store;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use tokio::runtime::{Builder, Runtime};

use self::store::Store;
use super::http;

pub use received::Mail;

/// A running mail sink. Dropping it stops it.
#[derive(Debug)]
pub struct MailSink {
    smtp: SocketAddr,
    web: SocketAddr,
    store: Arc<Store>,
    runtime: Option<Runtime>,
}

impl MailSink {
    /// Takes mail on `smtp` and shows it on `web`. With a folder, mails are kept there as `.eml` files and are there
    /// again after a restart. It has a thread of its own, so it does not matter where it is called from.
    ///
    /// # Errors
    /// When the folder cannot be used or no thread can be had.
    pub fn start(folder: Option<&Path>, smtp: TcpListener, web: TcpListener) -> anyhow::Result<Self> {
        let store = Arc::new(Store::open(folder)?);
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("mail").enable_all().build()?;
        let addresses = (smtp.local_addr()?, web.local_addr()?);
        let _inside = runtime.enter();
        runtime.spawn(smtp::serve(http::listener(smtp)?, Arc::clone(&store)));
        let shown = Arc::clone(&store);
        runtime.spawn(http::serve(http::listener(web)?, move |request| {
            let answer = page::answer(&shown, request.method(), request.uri().path());
            std::future::ready(Ok(answer))
        }));
        drop(_inside);
        Ok(Self { smtp: addresses.0, web: addresses.1, store, runtime: Some(runtime) })
    }

    /// The URL to send mail to.
    #[must_use]
    pub fn smtp_url(&self) -> String {
        format!("smtp://{}", self.smtp)
    }

    /// The page that lists the mails.
    #[must_use]
    pub fn web_url(&self) -> String {
        format!("http://{}/", self.web)
    }

    /// The ports for mail and for the page.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        (self.smtp.port(), self.web.port())
    }

    /// All mails kept, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.store.all()
    }

    /// From now on mails are kept and not answered, as by a server that is slow, or no longer so.
    pub fn stall(&self, stalled: bool) {
        self.store.stall(stalled);
    }

    /// The first mail, of those here and those to come, that fits. Waits without end: put a timeout around it.
    pub async fn wait_for(&self, fits: impl Fn(&Mail) -> bool) -> Mail {
        self.store.wait_for(fits).await
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpStream,
    };

    use super::*;
    use crate::services::ports;

    fn sink(folder: Option<&Path>) -> MailSink {
        MailSink::start(folder, ports::listen(None).unwrap(), ports::listen(None).unwrap()).unwrap()
    }

    /// Says each line to the server and returns the last answer.
    async fn say(sink: &MailSink, lines: &[&str]) -> String {
        let stream = TcpStream::connect(sink.smtp).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        for line in lines {
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            loop {
                answer.clear();
                stream.read_line(&mut answer).await.unwrap();
                if answer.as_bytes().get(3) != Some(&b'-') {
                    break;
                }
            }
        }
        answer
    }

    const LETTER: [&str; 6] = [
        "EHLO test",
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "DATA",
        "Subject: Hello <b>you</b>\r\n\r\n..dotted\r\n.",
        "QUIT",
    ];

    #[tokio::test]
    async fn a_mail_is_kept_shown_and_there_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = sink(Some(folder.path()));
        assert!(say(&first, &LETTER).await.starts_with("221"));
        let mail = first.wait_for(|mail| mail.to == ["b@example.org"]).await;
        assert_eq!(mail.from, "a@example.org");
        assert_eq!(mail.subject(), "Hello <b>you</b>");
        assert_eq!(mail.data, "Subject: Hello <b>you</b>\r\n\r\n.dotted\r\n");
        drop(first);

        let second = sink(Some(folder.path()));
        assert_eq!(second.mails(), [mail]);
        let page = fetch(&second.web_url()).await;
        assert!(page.contains("Hello &lt;b&gt;you&lt;/b&gt;") && !page.contains("<b>you"), "{page}");
        let raw = fetch(&format!("{}mails/1.eml", second.web_url())).await;
        assert!(raw.contains("Subject: Hello <b>you</b>"), "{raw}");
    }

    const WITH_HTML: [&str; 6] = [
        "EHLO test",
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "DATA",
        "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=x\r\n\r\n\
         --x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
         Sch=C3=B6n: https://example.org/?a=3D1 <script>\r\n\
         --x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p onclick=\"x()\">Hi</p><script>x()</script>\r\n--x--\r\n.",
        "QUIT",
    ];

    #[tokio::test]
    async fn both_parts_of_a_mail_can_be_read_by_people_and_programs_and_nothing_in_it_runs() {
        let sink = sink(None);
        say(&sink, &WITH_HTML).await;
        let mail = sink.wait_for(|_| true).await;
        assert_eq!(
            (mail.subject().as_str(), mail.text().trim()),
            ("Grüße", "Schön: https://example.org/?a=1 <script>")
        );
        let page = fetch(&format!("{}mails/1", sink.web_url())).await;
        let link = "<a href=\"https://example.org/?a=1\" target=\"_blank\" rel=\"noreferrer\">";
        assert!(page.contains(link) && page.contains("&lt;script&gt;") && page.contains("Grüße"), "{page}");
        assert!(page.contains("<iframe sandbox=\"allow-popups allow-popups-to-escape-sandbox\""), "{page}");
        assert!(!page.contains("onclick"), "{page}");
        let html = reqwest::get(format!("{}mails/1.html", sink.web_url())).await.unwrap();
        let policy = html.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
        assert!(html.text().await.unwrap().contains("<p onclick"));
        assert!(fetch(&format!("{}mails/1.txt", sink.web_url())).await.starts_with("Schön"));
        let list: serde_json::Value =
            serde_json::from_str(&fetch(&format!("{}mails.json", sink.web_url())).await).unwrap();
        assert_eq!((&list[0]["number"], &list[0]["subject"]), (&1.into(), &"Grüße".into()));
        assert!(list[0]["text"].as_str().unwrap().contains("Schön"));
    }

    #[tokio::test]
    async fn a_mailbox_that_puts_off_takes_the_second_try() {
        let sink = sink(None);
        let name = ["EHLO test", "MAIL FROM:<a@b.org>", "RCPT TO:<later@b.org>"];
        assert!(say(&sink, &name).await.starts_with("450"));
        assert!(say(&sink, &name).await.starts_with("250"));
    }

    #[tokio::test]
    async fn an_unknown_mailbox_is_refused() {
        let sink = sink(None);
        let answer = say(&sink, &["EHLO test", "MAIL FROM:<a@b.org>", "RCPT TO:<bounce@b.org>"]).await;
        assert!(answer.starts_with("550"), "{answer}");
    }

    async fn fetch(url: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }
}
