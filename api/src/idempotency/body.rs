//! The body of a request with a key: hashed as it is read, so that a large upload is never held in memory.

use crate::error::{ApiError, Code};
use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header::CONTENT_TYPE,
    web::Bytes,
};
use futures_util::{Stream, StreamExt, stream::poll_fn};
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// What a handler left unread is read for the hash, up to so many bytes.
const LEFT_UNREAD: usize = 1 << 20;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest body that is compared with an earlier one, in bytes: longer than any that is taken.
const LONGEST: usize = 128 << 20;

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// The body of one request; the handler reads it through the payload of the request.
pub(super) struct SentBody(Rc<RefCell<Reader>>);

struct Reader {
    payload: Payload,
    hash: BodyHash,
    is_whole: bool,
}

impl Reader {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.payload).poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => self.hash.update(chunk),
            Poll::Ready(None) => self.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl SentBody {
    /// Puts itself between the request and its body.
    pub(super) fn of(request: &mut ServiceRequest) -> Self {
        let boundary = request.headers().get(CONTENT_TYPE).and_then(|media| boundary(media.to_str().ok()?));
        let reader = Reader { payload: request.take_payload(), hash: BodyHash::new(boundary), is_whole: false };
        let shared = Rc::new(RefCell::new(reader));
        let reading = shared.clone();
        let stream = poll_fn(move |context| reading.borrow_mut().poll(context));
        request.set_payload(Payload::Stream { payload: Box::pin(stream) });
        Self(shared)
    }

    fn rest(&self) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin + '_ {
        poll_fn(|context| self.0.borrow_mut().poll(context))
    }

    /// The hash of the body, once the handler is done with it. `None`: it could not be read to its end.
    pub(super) async fn finish(self) -> Option<Vec<u8>> {
        let read = async {
            let (mut left, mut rest) = (LEFT_UNREAD, self.rest());
            while let Some(chunk) = rest.next().await {
                left = left.checked_sub(chunk.ok()?.len())?;
            }
            Some(())
        };
        timeout(PATIENCE, read).await.ok()??;
        Some(self.hash())
    }

    /// The hash of a body that no handler reads. `None`: it is longer than any that was taken.
    ///
    /// # Errors
    /// 400 if it breaks off.
    pub(super) async fn read_all(self) -> Result<Option<Vec<u8>>, ApiError> {
        let broken = |message: &str| ApiError::new(Code::Validation, message);
        let (mut left, mut rest) = (LONGEST, self.rest());
        while let Some(chunk) = timeout(SILENCE, rest.next()).await.map_err(|_| broken("The body did not come"))? {
            let chunk = chunk.map_err(|error| broken("The body broke off").because(error))?;
            let Some(less) = left.checked_sub(chunk.len()) else { return Ok(None) };
            left = less;
        }
        Ok(Some(self.hash()))
    }

    fn hash(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().hash).finish()
    }
}

/// The boundary of a form with several parts.
fn boundary(media: &str) -> Option<Vec<u8>> {
    let (kind, parameters) = media.split_once(';')?;
    if !kind.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let mut parameters = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let value = value.trim().trim_matches('"');
    (!value.is_empty() && value.len() <= 200).then(|| value.as_bytes().to_vec())
}

/// SHA-256 of a body. The boundary of a form is left out: a client that sends a form again makes a new one up.
#[derive(Default)]
struct BodyHash {
    hash: Sha256,
    boundary: Option<Vec<u8>>,
    /// The last bytes, which the boundary may begin with.
    tail: Vec<u8>,
}

impl BodyHash {
    fn new(boundary: Option<Vec<u8>>) -> Self {
        Self { boundary, ..Self::default() }
    }

    fn update(&mut self, chunk: &[u8]) {
        let Some(boundary) = &self.boundary else {
            self.hash.update(chunk);
            return;
        };
        self.tail.extend_from_slice(chunk);
        let mut rest = self.tail.as_slice();
        while let Some(at) = find(rest, boundary) {
            self.hash.update(&rest[..at]);
            rest = &rest[at + boundary.len()..];
        }
        let settled = rest.len().saturating_sub(boundary.len() - 1);
        self.hash.update(&rest[..settled]);
        self.tail = rest[settled..].to_vec();
    }

    fn finish(mut self) -> Vec<u8> {
        self.hash.update(&self.tail);
        self.hash.finalize().to_vec()
    }
}

/// Where a text begins in another one. The first byte is looked for alone: images are long, and it is rare.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let (first, others) = wanted.split_first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| byte == first) {
        let after = from + at + 1;
        if text[after..].starts_with(others) {
            return Some(after - 1);
        }
        from = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(boundary: Option<&str>, chunks: &[&str]) -> Vec<u8> {
        let mut hash = BodyHash::new(boundary.map(|boundary| boundary.as_bytes().to_vec()));
        chunks.iter().for_each(|chunk| hash.update(chunk.as_bytes()));
        hash.finish()
    }

    #[test]
    fn a_body_has_one_hash_however_it_comes() {
        assert_eq!(hash(None, &["abc"]), hash(None, &["a", "", "bc"]));
        assert_eq!(hash(None, &["abc"]), Sha256::digest("abc").to_vec());
        assert_ne!(hash(None, &["abc"]), hash(None, &["abd"]));
    }

    #[test]
    fn the_boundary_of_a_form_does_not_count_wherever_it_is_cut() {
        let form = "--XaXb\r\nfirst\r\n--XaXb\r\nXa second Xb\r\n--XaXb--\r\n";
        let whole = hash(Some("XaXb"), &[form]);
        for at in 0..=form.len() {
            let (one, other) = form.split_at(at);
            assert_eq!(hash(Some("XaXb"), &[one, other]), whole, "cut at {at}");
        }
        let letters: Vec<String> = form.chars().map(String::from).collect();
        assert_eq!(hash(Some("XaXb"), &letters.iter().map(String::as_str).collect::<Vec<_>>()), whole);
        assert_eq!(hash(Some("other"), &[&form.replace("XaXb", "other")]), whole, "another boundary, the same form");
        assert_ne!(hash(Some("XaXb"), &[&form.replace("second", "third")]), whole);
    }

    #[test]
    fn only_forms_have_a_boundary() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a b\"").as_deref(), Some(&b"a b"[..]));
        for media in
            ["application/json", "application/json; boundary=abc", "multipart/form-data", "multipart/x; boundary="]
        {
            assert_eq!(boundary(media), None, "{media}");
        }
    }
}
