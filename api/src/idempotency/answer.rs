//! An answer as it is kept: sealed with the client's key and the secret of the server, so that neither a table nor its
//! backup gives away what was in it, a new API key for example.

use crate::edge::X_REQUEST_ID;
use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING},
    },
    web::Bytes,
};
use anyhow::anyhow;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use shared::models::IdempotencyKey;

/// What distinguishes this use of the server's secret from others.
const PURPOSE: &[u8] = b"atelier: answers to requests with an Idempotency-Key";

/// Headers that are made anew for each answer.
const FRESH: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];

/// Closes and opens the answers to one key.
pub(super) struct Seal {
    key: Option<LessSafeKey>,
    about: Vec<u8>,
}

impl Seal {
    /// The seal that only the server and whoever knows the text of the key can make.
    pub(super) fn new(secret: &[u8], key: &IdempotencyKey, text: &[u8]) -> Self {
        let about = [key.user_id.as_bytes(), key.route.as_bytes()].concat();
        let mut derived = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        for part in [PURPOSE, &about, text] {
            derived.update(&(part.len() as u64).to_be_bytes());
            derived.update(part);
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, derived.sign().as_ref()).ok().map(LessSafeKey::new);
        Self { key, about }
    }

    /// Seals an answer.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn close(&self, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        let key = self.key.as_ref().ok_or_else(|| anyhow!("there is no key to seal with"))?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| anyhow!("the system gives no random numbers"))?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.about.as_slice()),
            &mut sealed,
        )
        .map_err(|_| anyhow!("the answer cannot be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens an answer. `None`: it was not sealed with this.
    pub(super) fn open(&self, sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let opened = self.key.as_ref()?.open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(self.about.as_slice()),
            &mut rest,
        );
        let length = opened.ok()?.len();
        rest.truncate(length);
        Some(rest)
    }
}

/// An answer without its body.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// Of the request that was answered; an error names it in its body.
    request_id: Option<String>,
}

impl Kept {
    /// Status and headers of an answer to this request.
    pub(super) fn new<B>(response: &HttpResponse<B>, request_id: &str) -> Self {
        let headers = response.headers().iter().filter(|(name, _)| !FRESH.contains(name));
        Self {
            status: response.status().as_u16(),
            headers: headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
            request_id: response.status().is_client_error().then(|| request_id.to_owned()),
        }
    }

    /// The answer as it is sealed: the length of its head, the head, the body.
    pub(super) fn to_bytes(&self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let head = serde_json::to_vec(self)?;
        let length = u32::try_from(head.len())?.to_be_bytes();
        Ok([length.as_slice(), &head, body].concat())
    }

    /// Reads what [`Kept::to_bytes`] wrote.
    pub(super) fn from_bytes(plain: &[u8]) -> Option<(Self, Bytes)> {
        let (length, rest) = plain.split_first_chunk()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some((serde_json::from_slice(head).ok()?, Bytes::copy_from_slice(body)))
    }

    /// The answer, once more.
    pub(super) fn response(self, body: Bytes) -> HttpResponse {
        let mut response = HttpResponse::new(StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK));
        let named = self.request_id.map(|id| (X_REQUEST_ID.to_string(), id.into_bytes()));
        for (name, value) in self.headers.into_iter().chain(named) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                response.headers_mut().append(name, value);
            }
        }
        response.set_body(body).map_into_boxed_body()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use actix_web::http::header::LOCATION;
    use uuid::Uuid;

    fn key(user: u128, route: &str) -> IdempotencyKey {
        IdempotencyKey { user_id: Uuid::from_u128(user), route: route.to_owned(), hash: Vec::new(), owner: Uuid::nil() }
    }

    #[test]
    fn an_answer_comes_out_as_it_went_in() {
        let response = HttpResponse::Created()
            .insert_header((LOCATION, "/here"))
            .insert_header((DATE, "yesterday"))
            .json(serde_json::json!({ "a": 1 }));
        let kept = Kept::new(&response, "request-1");
        let plain = kept.to_bytes(b"{\"a\":1}").unwrap();
        let (again, body) = Kept::from_bytes(&plain).unwrap();
        assert_eq!((&again, body.as_ref()), (&kept, &b"{\"a\":1}"[..]));
        let replayed = again.response(body);
        assert_eq!(replayed.status(), StatusCode::CREATED);
        assert_eq!(replayed.headers().get(LOCATION).unwrap(), "/here");
        assert!(!replayed.headers().contains_key(DATE) && !replayed.headers().contains_key(X_REQUEST_ID));
    }

    #[test]
    fn an_error_keeps_the_request_that_it_names() {
        let kept = Kept::new(&HttpResponse::NotFound().finish(), "request-1");
        assert_eq!(kept.response(Bytes::new()).headers().get(X_REQUEST_ID).unwrap(), "request-1");
    }

    #[test]
    fn only_the_same_server_user_route_and_key_open_it() {
        let seal = |secret: &[u8], user, route, text: &[u8]| Seal::new(secret, &key(user, route), text);
        let sealed = seal(b"secret", 1, "POST /a", b"key").close(b"an answer").unwrap();
        assert_eq!(seal(b"secret", 1, "POST /a", b"key").open(sealed.clone()).as_deref(), Some(&b"an answer"[..]));
        for other in [
            seal(b"another", 1, "POST /a", b"key"),
            seal(b"secret", 2, "POST /a", b"key"),
            seal(b"secret", 1, "POST /b", b"key"),
            seal(b"secret", 1, "POST /a", b"yek"),
        ] {
            assert_eq!(other.open(sealed.clone()), None);
        }
        assert!(!sealed.windows(6).any(|part| part == b"answer"));
        assert_eq!(seal(b"secret", 1, "POST /a", b"key").open(Vec::new()), None);
        let mut damaged = sealed;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(seal(b"secret", 1, "POST /a", b"key").open(damaged), None);
    }
}
