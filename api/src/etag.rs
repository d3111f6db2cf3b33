//! Versions of things that several people change: `ETag` on the way out, `If-Match` on the way in.

use crate::error::ApiError;
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{ETAG, HeaderName, IF_MATCH},
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
};

/// The header that names a version.
pub(crate) fn etag(version: i32) -> (HeaderName, String) {
    (ETAG, format!("\"{version}\""))
}

/// The versions that a request is good for; without the header, any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IfMatch(Option<String>);

impl IfMatch {
    /// Whether the request names versions at all.
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Lets a request pass if it is good for this version.
    ///
    /// # Errors
    /// 409: somebody has changed the thing in between.
    pub(crate) fn check(&self, version: i32) -> Result<(), ApiError> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let version = format!("\"{version}\"");
        // a proxy that compresses answers makes weak tags of strong ones
        let good = wanted.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == version);
        let message = "It has been changed since you read it; read it again and repeat your change";
        if good { Ok(()) } else { Err(ApiError::conflict(message)) }
    }
}

impl FromRequest for IfMatch {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let sent: Vec<_> =
            request.headers().get_all(IF_MATCH).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        ready(Ok(Self((!sent.is_empty()).then(|| sent.join(",")))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_passes_for_the_version_it_was_made_from() {
        let passes = |header: Option<&str>| IfMatch(header.map(ToOwned::to_owned)).check(12).is_ok();
        for good in [None, Some("*"), Some("\"12\""), Some("W/\"12\""), Some("\"11\", \"12\"")] {
            assert!(passes(good), "{good:?}");
        }
        for bad in ["\"1\"", "12", "\"112\"", "", "nonsense"] {
            assert!(!passes(Some(bad)), "{bad:?}");
        }
    }
}
