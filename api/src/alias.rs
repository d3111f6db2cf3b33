//! The paths and methods that clients may use for the one canonical form of each endpoint.
//!
//! They are rewritten before routing and never redirected, so that they work for every method and a body is sent once.

use actix_web::http::{Method, Uri, uri::PathAndQuery};

/// Where the API lives.
pub(crate) const PREFIX: &str = "/api/v1";

/// The canonical path of a path, without a trailing slash.
pub(crate) fn canonical_path(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    let rest = trimmed.strip_prefix('/').unwrap_or(trimmed);
    let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
    match first {
        "" => "/".to_owned(),
        "auth" => format!("{PREFIX}{trimmed}"),
        "v1" if !below.is_empty() => format!("{PREFIX}/{below}"),
        "api" if !below.is_empty() && !is_version(below) => format!("{PREFIX}/{below}"),
        _ => trimmed.to_owned(),
    }
}

/// Whether a path begins with `v<number>`.
fn is_version(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    first.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The same address with its canonical path; `None` if it has that already.
pub(crate) fn canonical_uri(uri: &Uri) -> Option<Uri> {
    let path = canonical_path(uri.path());
    if path == uri.path() {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// The method that answers another one: HEAD is a GET whose body is not sent, PATCH and PUT mean the same.
pub(crate) fn canonical_method(method: &Method) -> Method {
    match *method {
        Method::HEAD => Method::GET,
        Method::PATCH => Method::PUT,
        _ => method.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn every_documented_form_of_a_path_leads_to_the_canonical_one() {
        for (path, canonical) in [
            ("/api/v1/users/me", "/api/v1/users/me"),
            ("/api/v1/users/me/", "/api/v1/users/me"),
            ("/api/users/me", "/api/v1/users/me"),
            ("/api/auth/login", "/api/v1/auth/login"),
            ("/v1/auth/login", "/api/v1/auth/login"),
            ("/v1/auth/login/", "/api/v1/auth/login"),
            ("/auth/login", "/api/v1/auth/login"),
            ("/api/video", "/api/v1/video"),
            ("/api/v1beta/x", "/api/v1/v1beta/x"),
            ("/health/", "/health"),
            ("/docs/", "/docs"),
            ("/ws/processing/1", "/ws/processing/1"),
            ("/socket.io/", "/socket.io"),
        ] {
            assert_eq!(canonical_path(path), canonical, "{path}");
        }
    }

    #[test]
    fn other_versions_and_unknown_paths_stay_what_they_are() {
        for path in ["/api/v2/users/me", "/v2/users/me", "/api/v10/x", "/users/me", "/api", "/v1", "/", "/authors/1"] {
            assert_eq!(canonical_path(path), path);
        }
    }

    #[test]
    fn the_query_string_is_kept() {
        let uri: Uri = "/auth/sessions/?page=2&sort=-created_at".parse().unwrap();
        assert_eq!(canonical_uri(&uri).unwrap(), "/api/v1/auth/sessions?page=2&sort=-created_at");
        assert_eq!(canonical_uri(&"/health?x=1".parse().unwrap()), None);
    }

    #[test]
    fn put_and_patch_are_one_and_head_is_a_get() {
        for (method, canonical) in [
            (Method::HEAD, Method::GET),
            (Method::PATCH, Method::PUT),
            (Method::PUT, Method::PUT),
            (Method::POST, Method::POST),
        ] {
            assert_eq!(canonical_method(&method), canonical);
        }
    }
}
