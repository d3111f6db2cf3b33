//! The pages that show the mails: a list, newest first, and each mail with its parts; and the same for programs.
//!
//! A mail comes from anywhere: its text is escaped, its HTML is shown in a frame that may neither run nor load anything.

use std::fmt::Write;

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};

use super::{received::Mail, store::Store};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const PAGES: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'self'";
/// For the HTML of a mail: as in the sandbox of its frame, also when it is opened by itself.
const FRAMES: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; \
                      sandbox allow-popups allow-popups-to-escape-sandbox";

pub(super) fn answer(store: &Store, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, PAGES, "Only GET.\n".to_owned());
    }
    let found = match path {
        "/" => Some((HTML, PAGES, list(&store.all()))),
        "/mails.json" => {
            let mails: Vec<Value> = store.all().iter().rev().map(told).collect();
            Some((JSON, PAGES, format!("{:#}\n", Value::from(mails))))
        }
        _ => path.strip_prefix("/mails/").and_then(|name| one(store, name)),
    };
    match found {
        Some((kind, policy, body)) => response(StatusCode::OK, kind, policy, body),
        None => response(StatusCode::NOT_FOUND, TEXT, PAGES, "No such mail. The list is at /\n".to_owned()),
    }
}

/// `7`, `7.txt`, `7.html` or `7.eml`.
fn one(store: &Store, name: &str) -> Option<(HeaderValue, &'static str, String)> {
    let (number, form) = name.split_once('.').unwrap_or((name, ""));
    let mail = store.find(number.parse().ok()?)?;
    match form {
        "" => Some((HTML, PAGES, show(&mail))),
        "txt" => Some((TEXT, PAGES, mail.text())),
        // a link is opened outside of the frame
        "html" => Some((HTML, FRAMES, format!("<base target=\"_blank\">{}", mail.html()?))),
        "eml" => Some((TEXT, PAGES, mail.data)),
        _ => None,
    }
}

fn response(status: StatusCode, kind: HeaderValue, policy: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn told(mail: &Mail) -> Value {
    json!({
        "number": mail.number,
        "from": mail.from,
        "to": mail.to,
        "subject": mail.subject(),
        "date": mail.header("Date"),
        "text": mail.text(),
    })
}

fn list(mails: &[Mail]) -> String {
    let mut rows = String::new();
    for mail in mails.iter().rev() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"/mails/{}\">{}</a></td><td>{}</td><td>{}</td></tr>",
            mail.number,
            escape(&title(mail)),
            escape(&mail.to.join(", ")),
            escape(&mail.header("Date")),
        );
    }
    let content = if rows.is_empty() {
        "<p>No mail yet. Whatever Atelier sends turns up here; reload to see it.</p>".to_owned()
    } else {
        format!("<table class=\"list\"><tr><th>Subject</th><th>To</th><th>Date</th></tr>\n{rows}</table>")
    };
    let note = "<footer>For programs: <a href=\"/mails.json\">/mails.json</a>, /mails/<i>number</i>.txt, .html and .eml</footer>";
    page("Mail", &format!("<h1>Mail</h1>{content}{note}"))
}

fn show(mail: &Mail) -> String {
    let number = mail.number;
    let headers: String = mail
        .headers()
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), with_links(value)))
        .collect();
    let html = match mail.html() {
        Some(_) => format!(
            "<h2>HTML <a href=\"/mails/{number}.html\">alone</a></h2>\
             <iframe sandbox=\"allow-popups allow-popups-to-escape-sandbox\" src=\"/mails/{number}.html\" title=\"HTML part\"></iframe>"
        ),
        None => String::new(),
    };
    let content = format!(
        "<p><a href=\"/\">← all mails</a></p><h1>{}</h1>\
         <p>to <b>{}</b> from {} · {}</p>{html}\
         <h2>Text <a href=\"/mails/{number}.txt\">alone</a></h2><pre>{}</pre>\
         <details><summary>Headers</summary><table>{headers}</table></details>\
         <p><a href=\"/mails/{number}.eml\">The mail as it was sent</a></p>",
        escape(&title(mail)),
        escape(&mail.to.join(", ")),
        escape(&mail.from),
        escape(&mail.header("Date")),
        with_links(&mail.text()),
    );
    page(&title(mail), &content)
}

fn title(mail: &Mail) -> String {
    let subject = mail.subject();
    if subject.is_empty() { "(no subject)".to_owned() } else { subject }
}

fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{} · Atelier mail</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color-scheme:light dark}}\
         h2{{font-size:1rem;margin:1.5rem 0 .5rem}}h2 a{{font-weight:normal;font-size:.85rem;margin-left:.5rem}}\
         table{{border-collapse:collapse}}.list{{width:100%}}\
         th,td{{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8884;overflow-wrap:anywhere}}\
         details th{{white-space:nowrap}}\
         iframe{{width:100%;height:34rem;border:1px solid #8884;background:#fff;color-scheme:light}}\
         pre{{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8884;padding:1rem;margin:0;font-size:.9rem}}\
         footer{{margin-top:2rem;font-size:.85rem;opacity:.7}}\
         </style></head><body>{content}</body></html>",
        escape(title)
    )
}

/// Escaped text in which web addresses can be clicked.
fn with_links(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = ["https://", "http://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
        let (before, address) = rest.split_at(start);
        let ends = |c: char| c.is_whitespace() || "<>\"'".contains(c);
        let (address, after) = address.split_at(address.find(ends).unwrap_or(address.len()));
        let address_only = address.trim_end_matches(['.', ',', ';', ')']);
        let escaped = escape(address_only);
        shown += &escape(before);
        shown += &format!("<a href=\"{escaped}\" target=\"_blank\" rel=\"noreferrer\">{escaped}</a>");
        shown += &escape(&address[address_only.len()..]);
        rest = after;
    }
    shown + &escape(rest)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
