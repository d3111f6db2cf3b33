//! Headers that tell browsers what they may do with an answer, and whose pages may call the API.

use crate::{config::Config, edge::X_REQUEST_ID, limits, state::State};
use actix_cors::Cors;
use actix_web::{
    body::BoxBody,
    dev::ServiceResponse,
    http::header::{
        CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
        STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

/// An answer is data: a browser that shows it must not run anything in it.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// The pages that explain the API run scripts of our own, style themselves, and call us.
const PAGES: &str = "default-src 'none'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; \
                     img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; \
                     base-uri 'none'; form-action 'none'";

/// The pages that mails lead to have their style inside, and nothing else.
const LEAFLETS: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; \
                        base-uri 'none'; form-action 'none'";

/// Adds what every answer has.
pub(crate) fn add_headers(response: &mut ServiceResponse<BoxBody>, state: Option<&State>) {
    let path = response.request().path();
    let is_page = ["/docs", "/redoc"]
        .iter()
        .any(|page| path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let policy = match path {
        _ if is_page => PAGES,
        "/invitations/accept" => LEAFLETS,
        _ => DATA,
    };
    let over_tls = state.and_then(|state| state.config.public_url.as_ref()).is_some_and(|url| url.scheme() == "https");
    let headers = response.response_mut().headers_mut();
    let add = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    // a page of ours may need another one
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        add(headers, CONTENT_SECURITY_POLICY, policy);
    }
    add(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(headers, X_FRAME_OPTIONS, "DENY");
    add(headers, REFERRER_POLICY, "no-referrer");
    if over_tls {
        add(headers, STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains");
    }
}

/// Lets the pages of the configured origins call the API.
pub(crate) fn cors(config: &Config) -> Cors {
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers([X_REQUEST_ID, RETRY_AFTER].into_iter().chain(limits::HEADERS).chain(
            ["x-api-version", "idempotent-replayed", "deprecation", "sunset", "link"].map(HeaderName::from_static),
        ))
        .max_age(3600);
    config.cors_origins.iter().fold(cors, |cors, origin| match origin.as_str() {
        "*" => cors.allow_any_origin(),
        origin => cors.allowed_origin(origin),
    })
}
