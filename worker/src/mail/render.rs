//! Puts a letter into words: subject, text and HTML, from the files in `templates/`.
//!
//! Names of people, organizations and pipelines were chosen by somebody, perhaps by somebody hostile, and are shown to
//! somebody else. They come in as one line of visible characters; in the HTML part they are escaped.

use chrono::{DateTime, Utc};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context, value::Serde};
use serde_json::Value as Json;
use shared::letter::Letter;
use url::Url;

/// Longest name, in characters.
const LONGEST_NAME: usize = 100;

/// Longest message of an error, in characters.
const LONGEST_ERROR: usize = 500;

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

/// The files of one letter.
struct Files {
    subject: &'static str,
    text: &'static str,
    html: &'static str,
}

macro_rules! files {
    ($name:literal) => {
        Files {
            subject: include_str!(concat!("templates/", $name, ".subject")),
            text: include_str!(concat!("templates/", $name, ".txt")),
            html: include_str!(concat!("templates/", $name, ".html")),
        }
    };
}

const fn files(letter: &Letter) -> Files {
    match letter {
        Letter::Invitation { .. } => files!("invitation"),
        Letter::PasswordReset { .. } => files!("password_reset"),
        Letter::MfaChanged { .. } => files!("mfa_changed"),
        Letter::JobEnded { .. } => files!("job_ended"),
        Letter::QuotaWarning { .. } => files!("quota_warning"),
        Letter::WebhookDisabled { .. } => files!("webhook_disabled"),
    }
}

/// What a letter asks its reader to open, and the words on the button.
pub(super) fn link(letter: &Letter) -> Option<(&'static str, &str)> {
    match letter {
        Letter::Invitation { accept_url, .. } => Some(("Accept the invitation", accept_url)),
        Letter::PasswordReset { reset_url, .. } => Some(("Choose a new password", reset_url)),
        Letter::MfaChanged { .. }
        | Letter::JobEnded { .. }
        | Letter::QuotaWarning { .. }
        | Letter::WebhookDisabled { .. } => None,
    }
}

/// The words of a letter; a notice with a link to unsubscribe says so at its end.
pub(crate) fn words(letter: &Letter, unsubscribe: Option<&Url>) -> Result<Words, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("time", time);
    environment.add_filter("duration", duration);
    let mut told = serde_json::to_value(letter)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "a letter").with_source(error))?;
    clean(&mut told);
    // what is escaped follows from the ending of the name
    let render =
        |name: &str, source: &str, about: Value| environment.template_from_named_str(name, source)?.render(about);

    let button = match link(letter) {
        Some((label, url)) => render(
            "button.html",
            include_str!("templates/button.html"),
            context! { label, url => one_line(url, usize::MAX) },
        )?,
        None => String::new(),
    };
    let about = context! { button => Value::from_safe_string(button), ..Value::from(Serde(&told)) };
    let Files { subject, text, html } = files(letter);
    let subject = one_line(&render("subject", subject, about.clone())?, 2 * LONGEST_NAME);
    let text = render("text", text, about.clone())?;
    let html = render("letter.html", html, about)?;
    let frame = |content: Value| {
        let unsubscribe = unsubscribe.map(Url::as_str);
        context! { subject => subject.as_str(), content, notice => letter.is_notice(), unsubscribe }
    };
    let text = render("frame", include_str!("templates/frame.txt"), frame(Value::from(text.trim())))?;
    let html = frame(Value::from_safe_string(html.trim().to_owned()));
    let html = render("frame.html", include_str!("templates/frame.html"), html)?;
    Ok(Words { subject, text, html })
}

/// Makes every text of a letter one line of visible characters of bounded length; links stay whole.
fn clean(told: &mut Json) {
    for (key, value) in told.as_object_mut().into_iter().flatten() {
        let longest = match key.as_str() {
            "error" | "reason" => LONGEST_ERROR,
            key if key.ends_with("url") => usize::MAX,
            _ => LONGEST_NAME,
        };
        if let Json::String(text) = value {
            *text = one_line(text, longest);
        }
    }
}

fn one_line(text: &str, longest: usize) -> String {
    let visible = |c: char| if c.is_control() || is_layout(c) { ' ' } else { c };
    let text: String = text.chars().map(visible).collect();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    let mut short: String = line.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Characters that break lines, or turn round or hide what stands beside them.
const fn is_layout(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A time as people write it.
fn time(text: &str) -> Result<String, Error> {
    let time: DateTime<Utc> =
        text.parse().map_err(|_| Error::new(ErrorKind::InvalidOperation, "this is not a time"))?;
    Ok(time.format("%-d %B %Y, %H:%M UTC").to_string())
}

/// Milliseconds as people say them.
fn duration(ms: i64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if ms < 10_000 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
