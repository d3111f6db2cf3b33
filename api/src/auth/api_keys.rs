//! What an API key looks like: a token with a beginning of its own.

use super::tokens::{self, RandomToken};

/// How every key begins, so that people and scanners of secrets recognise one.
const BEGINNING: &str = "sk_live_";

/// Characters of a key: 32 random bytes in base64url.
const LENGTH: usize = BEGINNING.len() + 43;

/// Characters that are shown of a key.
const SHOWN: usize = 12;

/// A new key: what the client gets once, and what is stored.
pub(crate) struct FreshKey {
    pub(crate) text: String,
    pub(crate) hash: Vec<u8>,
}

impl FreshKey {
    pub(crate) fn new() -> Self {
        let text = format!("{BEGINNING}{}", RandomToken::new().text);
        Self { hash: tokens::hash(&text), text }
    }

    /// The part that may be shown.
    pub(crate) fn prefix(&self) -> &str {
        self.text.get(..SHOWN).unwrap_or(BEGINNING)
    }
}

/// As a key is stored; `None` for what cannot be one.
pub(crate) fn hash(text: &str) -> Option<Vec<u8>> {
    let looks_right = text.len() == LENGTH && text.starts_with(BEGINNING);
    looks_right.then(|| tokens::hash(text))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn keys_differ_are_recognised_and_found_by_their_hash() {
        let (one, other) = (FreshKey::new(), FreshKey::new());
        assert_ne!(one.text, other.text);
        assert_eq!(hash(&one.text).unwrap(), one.hash);
        assert!(one.text.starts_with(one.prefix()) && one.prefix().len() == 12, "{}", one.prefix());
        for wrong in ["", "sk_live_", &one.text[1..], &format!("{}x", one.text), &one.text.replace("live", "test")] {
            assert!(hash(wrong).is_none(), "{wrong:?}");
        }
    }
}
