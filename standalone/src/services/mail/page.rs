//! The page that shows the mails: a list, and each mail as it was sent.

use std::fmt::Write;

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use super::store::{Mail, Store};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn answer(store: &Store, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET.\n".to_owned());
    }
    if path == "/" {
        return response(StatusCode::OK, HTML, list(&store.all()));
    }
    let number = path.strip_prefix("/mails/").and_then(|number| number.parse().ok());
    match number.and_then(|number| store.find(number)) {
        Some(mail) => response(StatusCode::OK, TEXT, mail.data),
        None => response(StatusCode::NOT_FOUND, TEXT, "No such mail. The list is at /\n".to_owned()),
    }
}

fn response(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    // A mail is shown as text whatever it contains.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn list(mails: &[Mail]) -> String {
    let mut rows = String::new();
    for mail in mails.iter().rev() {
        let subject = mail.subject();
        let subject = if subject.is_empty() { "(no subject)" } else { &subject };
        // Writing to a string cannot fail.
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"/mails/{}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            mail.number,
            escape(subject),
            escape(&mail.to.join(", ")),
            escape(&mail.from),
            escape(&mail.header("Date")),
        );
    }
    let content = if rows.is_empty() {
        "<p>No mail yet. Whatever Atelier sends turns up here; reload to see it.</p>".to_owned()
    } else {
        format!("<table><tr><th>Subject</th><th>To</th><th>From</th><th>Date</th></tr>\n{rows}</table>")
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Atelier mail</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}}\
         table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #8884}}\
         </style></head><body><h1>Mail</h1>{content}</body></html>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
