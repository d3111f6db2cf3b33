//! Signatures as the Standard Webhooks specification has them.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;
use uuid::Uuid;

/// What a secret in the form of the specification begins with.
const PREFIX: &str = "whsec_";

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value of `webhook-signature`: a signature of each secret, separated by spaces. `timestamp` is in Unix seconds.
pub(super) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a str>,
    id: Uuid,
    timestamp: i64,
    body: &[u8],
) -> String {
    let signatures: Vec<_> = secrets.into_iter().filter_map(|secret| signature(secret, id, timestamp, body)).collect();
    signatures.join(" ")
}

fn signature(secret: &str, id: Uuid, timestamp: i64, body: &[u8]) -> Option<String> {
    // a key of any length is taken
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// A secret that looks like one of the specification and is none is used as it is.
fn key(secret: &str) -> Cow<'_, [u8]> {
    let decoded = secret.strip_prefix(PREFIX).and_then(|rest| LENIENT.decode(rest).ok());
    decoded.filter(|key| !key.is_empty()).map_or(Cow::Borrowed(secret.as_bytes()), Cow::Owned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn the_key_of_a_secret_is_what_the_specification_says() {
        assert_eq!(*key("whsec_AQIDBA=="), [1, 2, 3, 4]);
        assert_eq!(*key("whsec_AQIDBA"), [1, 2, 3, 4]);
        assert_eq!(*key("AQIDBA=="), *b"AQIDBA==");
        assert_eq!(*key("whsec_no base64!"), *b"whsec_no base64!");
        assert_eq!(*key("whsec_"), *b"whsec_");
    }

    #[test]
    fn each_secret_signs() {
        let id = Uuid::nil();
        let one = signature("first", id, 1_700_000_000, b"{}").unwrap();
        let two = signature("second", id, 1_700_000_000, b"{}").unwrap();
        assert_ne!(one, two);
        assert_eq!(signatures(["first", "second"], id, 1_700_000_000, b"{}"), format!("{one} {two}"));
        assert_ne!(one, signature("first", id, 1_700_000_001, b"{}").unwrap(), "the time is signed");
        assert_ne!(one, signature("first", id, 1_700_000_000, b"{ }").unwrap(), "every byte is signed");
        assert_eq!(signatures([], id, 0, b""), "");
    }
}
