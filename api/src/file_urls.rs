//! Signed URLs of files: who has one may read that file until it expires, without credentials. The signature covers the file
//! and the time; whether the file still exists is asked at each use.

use crate::{alias::PREFIX, origin::public_base, state::State, views::URL_VALID};
use actix_web::HttpRequest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use ring::hmac;
use shared::config::Secret;
use uuid::Uuid;

/// What distinguishes this use of the server's secret from others.
const PURPOSE: &[u8] = b"atelier: signed URLs of files";

/// Makes the URLs of one answer.
pub(crate) struct FileUrls {
    base: String,
    key: hmac::Key,
    /// Seconds since 1970.
    expires: i64,
}

impl FileUrls {
    /// URLs that are good from now on, below the address that the client knows.
    pub(crate) fn new(request: &HttpRequest, state: &State) -> Self {
        let expires = (Utc::now() + URL_VALID).timestamp();
        Self { base: public_base(request), key: key(&state.config.jwt_secret), expires }
    }

    /// The URL of a file.
    pub(crate) fn url(&self, id: Uuid) -> String {
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &signed(id, self.expires)));
        let Self { base, expires, .. } = self;
        format!("{base}{PREFIX}/files/{id}/content?expires={expires}&signature={signature}")
    }
}

/// Whether this is the signature of a file's URL, and the URL is still good.
pub(crate) fn is_good(secret: &Secret, id: Uuid, expires: i64, signature: &str) -> bool {
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    // in the same time whether much of it is right or little
    hmac::verify(&key(secret), &signed(id, expires), &signature).is_ok() && Utc::now().timestamp() <= expires
}

fn key(secret: &Secret) -> hmac::Key {
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()), PURPOSE);
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

fn signed(id: Uuid, expires: i64) -> Vec<u8> {
    [id.as_bytes().as_slice(), &expires.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn a_url_is_good_for_its_file_its_time_and_its_server() {
        let secret = Secret::new("a secret of enough bytes for HS256");
        let (id, expires) = (Uuid::from_u128(1), Utc::now().timestamp() + 60);
        let url = FileUrls { base: "https://a.example".to_owned(), key: key(&secret), expires }.url(id);
        let signature = url.split("signature=").nth(1).unwrap();
        assert_eq!(url, format!("https://a.example/api/v1/files/{id}/content?expires={expires}&signature={signature}"));
        assert!(is_good(&secret, id, expires, signature));
        assert!(!is_good(&secret, Uuid::from_u128(2), expires, signature), "another file");
        assert!(!is_good(&secret, id, expires + 1, signature), "a longer time");
        assert!(!is_good(&Secret::new("another secret of enough bytes..."), id, expires, signature));
        for other in ["", "x", &signature[1..], "not/base64+"] {
            assert!(!is_good(&secret, id, expires, other), "{other}");
        }
    }

    #[test]
    fn an_expired_url_is_no_good() {
        let secret = Secret::new("a secret of enough bytes for HS256");
        let (id, expires) = (Uuid::from_u128(1), Utc::now().timestamp() - 1);
        let url = FileUrls { base: String::new(), key: key(&secret), expires }.url(id);
        assert!(!is_good(&secret, id, expires, url.split("signature=").nth(1).unwrap()));
    }
}
