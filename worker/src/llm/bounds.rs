//! How much a call can be: what is held in budgets for it, what fits, and what makes two requests the same.

use super::{Part, Request};
use sha2::{Digest, Sha256};
use shared::llm::{Capability, LOCAL, Served};

/// Tokens around a message: who says it, where it begins and ends. Generous.
const PER_MESSAGE: i64 = 16;

/// Tokens of an image, at most. Models cut images into tiles and count each; the dearest counts about 37,000 for one.
const PER_IMAGE: i64 = 40_000;

/// Characters of one token, at least, in text of any kind but the strangest. Only an estimate.
const CHARACTERS: i64 = 3;

/// SHA-256 of everything that is asked. Each part is preceded by its length, so that no two requests run together.
pub(super) fn hash(request: &Request) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(request.model.as_bytes());
    add(&request.max_tokens.to_be_bytes());
    add(&request.temperature.to_be_bytes());
    add(&request.top_p.to_be_bytes());
    add(&(request.stop.len() as u64).to_be_bytes());
    request.stop.iter().for_each(|stop| add(stop.as_bytes()));
    for message in &request.messages {
        add(message.role.as_str().as_bytes());
        add(&(message.parts.len() as u64).to_be_bytes());
        for part in &message.parts {
            match part {
                Part::Text(text) => {
                    add(b"text");
                    add(text.as_bytes());
                }
                Part::Image { content_type, bytes } => {
                    add(content_type.as_bytes());
                    add(bytes);
                }
            }
        }
    }
    hash.finalize().to_vec()
}

/// Tokens that the prompt can be at most: none is shorter than a byte.
pub(super) fn prompt_tokens(request: &Request) -> i64 {
    sum(request, |text| text.len())
}

/// The request as this model can take it: the answer may not be longer than the model allows. The local model has little
/// room, which prompt and answer share.
pub(super) fn fitted(request: &Request, served: Served<'_>) -> Request {
    let mut most = request.max_tokens.min(served.model.max_tokens);
    if served.local {
        let prompt = sum(request, |text| text.chars().count().div_ceil(CHARACTERS.unsigned_abs() as usize));
        most = most.min(u32::try_from((i64::from(served.context) - prompt).max(0)).unwrap_or(u32::MAX));
    }
    Request { max_tokens: most.max(1), ..request.clone() }
}

/// Whether there is an image among the messages.
pub(super) fn needs_vision(request: &Request) -> bool {
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| matches!(part, Part::Image { .. }))
}

/// Whether who answers sees images; a stand-in does not, whatever the model that is asked for can do.
pub(super) fn sees(served: Served<'_>) -> bool {
    let stands_in = served.local && served.model.provider != LOCAL;
    served.model.capabilities.contains(&Capability::Vision) && !stands_in
}

fn sum(request: &Request, text_tokens: fn(&str) -> usize) -> i64 {
    let part_tokens = |part: &Part| match part {
        Part::Text(text) => i64::try_from(text_tokens(text)).unwrap_or(i64::MAX),
        Part::Image { .. } => PER_IMAGE,
    };
    let message_tokens = |parts: &[Part]| parts.iter().map(part_tokens).fold(PER_MESSAGE, i64::saturating_add);
    request.messages.iter().map(|message| message_tokens(&message.parts)).fold(PER_MESSAGE, i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Message;
    use shared::kind::Speaker;

    fn request(texts: &[&str]) -> Request {
        let message = |text: &&str| Message { role: Speaker::User, parts: vec![Part::Text((*text).to_owned())] };
        Request {
            model: "m".to_owned(),
            messages: texts.iter().map(message).collect(),
            max_tokens: 10,
            temperature: 0.5,
            top_p: 1.0,
            stop: Vec::new(),
        }
    }

    #[test]
    fn two_requests_have_the_same_hash_only_if_everything_is_the_same() {
        let base = request(&["ab", "c"]);
        assert_eq!(hash(&base), hash(&base.clone()));
        let others = [
            request(&["a", "bc"]),
            request(&["abc"]),
            Request { model: "n".to_owned(), ..base.clone() },
            Request { max_tokens: 11, ..base.clone() },
            Request { temperature: 0.6, ..base.clone() },
            Request { top_p: 0.9, ..base.clone() },
            Request { stop: vec!["x".to_owned()], ..base.clone() },
        ];
        for other in &others {
            assert_ne!(hash(&base), hash(other), "{other:?}");
        }
    }

    #[test]
    fn a_prompt_is_never_held_for_less_than_its_bytes() {
        let text = "déjà vu 漢字".repeat(100);
        assert!(prompt_tokens(&request(&[&text])) >= i64::try_from(text.len()).unwrap_or(i64::MAX));
    }
}
