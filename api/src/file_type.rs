//! What a file is: as its sender says, or as its first bytes say.

/// What senders say that do not know.
const UNKNOWN: &str = "application/octet-stream";

/// Longest type that is kept.
const LONGEST: usize = 255;

/// How much of a file is looked at.
const HEAD: usize = 64 << 10;

/// The type of a file that begins with these bytes; `is_whole`: nothing comes after them.
pub(crate) fn file_type(declared: Option<&str>, bytes: &[u8], is_whole: bool) -> String {
    let declared = declared.filter(|declared| declared.len() <= LONGEST && !is_unknown(declared));
    declared.unwrap_or_else(|| found(bytes, is_whole)).to_owned()
}

fn is_unknown(declared: &str) -> bool {
    let essence = declared.split(';').next().unwrap_or_default().trim();
    essence.is_empty() || essence.eq_ignore_ascii_case(UNKNOWN)
}

fn found(bytes: &[u8], is_whole: bool) -> &'static str {
    let head = &bytes[..bytes.len().min(HEAD)];
    match infer::get(head) {
        Some(kind) => kind.mime_type(),
        None if is_text(head, is_whole && head.len() == bytes.len()) => "text/plain",
        None => UNKNOWN,
    }
}

/// Whether these bytes are UTF-8 without characters that no text has.
fn is_text(bytes: &[u8], is_whole: bool) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // its last character may be cut
        Err(error) if !is_whole && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| matches!(c, '\0'..='\x08' | '\x0b' | '\x0e'..='\x1a' | '\x1c'..='\x1f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    #[test]
    fn what_the_sender_says_counts_if_it_says_anything() {
        for (declared, expected) in [
            (Some("image/png"), "image/png"),
            (Some("text/plain; charset=latin1"), "text/plain; charset=latin1"),
            (Some("application/octet-stream"), "text/plain"),
            (Some("Application/Octet-Stream; x=y"), "text/plain"),
            (Some(""), "text/plain"),
            (None, "text/plain"),
        ] {
            assert_eq!(file_type(declared, b"words", true), expected, "{declared:?}");
        }
        assert_eq!(file_type(Some(&format!("text/{}", "x".repeat(300))), b"words", true), "text/plain");
    }

    #[test]
    fn the_bytes_say_what_nobody_has_said() {
        let long = "ä".repeat(HEAD);
        for (bytes, is_whole, expected) in [
            (PNG, true, "image/png"),
            (b"%PDF-1.7\n", true, "application/pdf"),
            (b"PK\x03\x04 and so on", true, "application/zip"),
            ("{\"a\": \"ä\"}\n".as_bytes(), true, "text/plain"),
            (b"\x1b[1mbold\x1b[0m\ttext\r\n", true, "text/plain"),
            (b"\0\x01\x02", true, UNKNOWN),
            (b"a text with a \0 in it", true, UNKNOWN),
            (b"latin \xe4", true, UNKNOWN),
            (b"cut here \xc3", false, "text/plain"),
            (b"cut here \xc3", true, UNKNOWN),
            (&long.as_bytes()[1..], true, UNKNOWN),
            (&[b"x", long.as_bytes()].concat(), true, "text/plain"),
        ] {
            assert_eq!(file_type(None, bytes, is_whole), expected, "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }
}
