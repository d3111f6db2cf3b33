//! The settings of mail: by which server, from whom, and where links lead.

use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use shared::config::{Reader, Secret};
use std::{net::IpAddr, str::FromStr};
use url::Url;

/// How mail is sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who takes the mails. Without one, links that somebody waits for are written to the log, other mails to nowhere.
    pub server: Option<MailServer>,
    /// Whom they are from.
    pub from: Mailbox,
    /// The API as receivers reach it. Without it, notices have no link to unsubscribe.
    pub public_url: Option<Url>,
}

impl Settings {
    /// Reads `ATELIER_SMTP_URL`, `ATELIER_MAIL_FROM` and `ATELIER_PUBLIC_URL`.
    pub fn read(from: &mut Reader) -> Self {
        let public_url: Option<Url> = from.optional("ATELIER_PUBLIC_URL");
        if public_url.as_ref().is_some_and(|url| !["http", "https"].contains(&url.scheme())) {
            from.problem("ATELIER_PUBLIC_URL: neither http:// nor https://");
        }
        Self {
            server: from.optional("ATELIER_SMTP_URL"),
            from: from.optional::<Sender>("ATELIER_MAIL_FROM").unwrap_or_default().0,
            public_url,
        }
    }
}

/// Whom mails are from, with a default.
struct Sender(Mailbox);

impl Default for Sender {
    fn default() -> Self {
        Self(Mailbox::new(Some("Atelier".to_owned()), lettre::Address::new_dangerous("no-reply", "localhost")))
    }
}

impl FromStr for Sender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("no sender such as Atelier <no-reply@example.com>: {error}"))
    }
}

/// How the way to a mail server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Not at all.
    None,
    /// By STARTTLS; a server that does not offer it is told nothing.
    StartTls,
    /// By TLS from the first byte.
    Tls,
}

/// Where mail is handed over: `smtp://host:port`, `smtp://user:password@host:port?tls=required`,
/// `smtps://user:password@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) login: Option<(String, Secret)>,
}

impl FromStr for MailServer {
    type Err = String;

    /// The error never repeats the text: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("no URL such as smtp://mail.example.com: {error}"))?;
        let security = match url.scheme() {
            "smtps" => Security::Tls,
            "smtp" => Security::None,
            _ => return Err("begins with neither smtp:// nor smtps://".to_owned()),
        };
        let security = url.query_pairs().try_fold(security, |so_far, (key, value)| match (&*key, &*value, so_far) {
            ("tls", "required", Security::None) => Ok(Security::StartTls),
            ("tls", _, Security::Tls) => Err("smtps:// is encrypted from the beginning; leave out ?tls=…".to_owned()),
            _ => Err("after the ?, only tls=required is known".to_owned()),
        })?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("ends with the port".to_owned());
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) | (_, None) => return Err("a user and a password, or neither".to_owned()),
            (user, Some(password)) => Some((decoded(user)?, Secret::new(decoded(password)?))),
        };
        if login.is_some() && security == Security::None && !is_this_host(&host) {
            return Err("the password would be sent unencrypted: smtps://…, or ?tls=required".to_owned());
        }
        let usual = match security {
            Security::None => 25,
            Security::StartTls => 587,
            Security::Tls => 465,
        };
        Ok(Self { host, port: url.port().unwrap_or(usual), security, login })
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "user and password have to be UTF-8".to_owned())
}

fn is_this_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let mut from = Reader::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let settings = Settings::read(&mut from);
        from.finish(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn every_way_to_a_server_can_be_said() {
        for (text, host, port, security, user) in [
            ("smtp://mail", "mail", 25, Security::None, None),
            ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, Security::None, None),
            ("smtp://[::1]:1025/", "::1", 1025, Security::None, None),
            ("smtp://me:secret@mail?tls=required", "mail", 587, Security::StartTls, Some("me")),
            ("smtp://me:secret@localhost:25", "localhost", 25, Security::None, Some("me")),
            (
                "smtps://me%40example.com:se%3Acret@mail.example.com",
                "mail.example.com",
                465,
                Security::Tls,
                Some("me@example.com"),
            ),
        ] {
            let server: MailServer = text.parse().unwrap();
            assert_eq!((server.host.as_str(), server.port, server.security), (host, port, security), "{text}");
            assert_eq!(server.login.as_ref().map(|login| login.0.as_str()), user, "{text}");
            assert!(!format!("{server:?}").contains("cret"), "{server:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_stops_the_start_and_no_password_is_repeated() {
        for text in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp://me@mail?tls=required",
            "smtp://:secret@mail?tls=required",
            "smtp://me:secret@mail",
            "smtps://me:secret@mail?tls=required",
            "smtp://me:secret@mail?tls=maybe",
            "smtp://me:secret@mail?security=tls",
            "smtp://me:secret@mail/inbox?tls=required",
        ] {
            let problem = read(&[("ATELIER_SMTP_URL", text)]).unwrap_err();
            assert!(problem.contains("ATELIER_SMTP_URL") && !problem.contains("secret"), "{text}: {problem}");
        }
        assert!(read(&[("ATELIER_MAIL_FROM", "nobody")]).unwrap_err().contains("ATELIER_MAIL_FROM"));
        assert!(read(&[("ATELIER_PUBLIC_URL", "ftp://here")]).unwrap_err().contains("ATELIER_PUBLIC_URL"));
    }

    #[test]
    fn without_any_setting_there_is_a_sender_and_no_server() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.from.to_string(), "Atelier <no-reply@localhost>");
        assert!(settings.server.is_none() && settings.public_url.is_none());
    }
}
