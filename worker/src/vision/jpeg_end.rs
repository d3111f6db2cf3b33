//! Does a JPEG file go on to its end?
//!
//! The decoder is lenient: where the data stops it paints grey. An upload cut off on its way would then be analysed as a
//! half-grey photo, so the markers are walked once to see whether the end marker is reached. Bytes after it (some phones
//! append a video) are no fault.

/// Second byte of a marker: end of image.
const END_OF_IMAGE: u8 = 0xD9;
/// Start of a scan: its header is followed by entropy-coded data up to the next real marker.
const START_OF_SCAN: u8 = 0xDA;

/// Walks the segments of a JPEG file; true if its end marker is there.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let Some((marker, after)) = next_marker(rest) else { return false };
        if marker == END_OF_IMAGE {
            return true;
        }
        rest = match segment_length(marker, after) {
            None => return false,
            Some(length) => after.get(length..).unwrap_or_default(),
        };
        if marker == START_OF_SCAN {
            rest = skip_scan(rest);
        }
    }
}

/// The next marker and what follows it; stray bytes before it are skipped, as decoders do.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = bytes.windows(2).position(|pair| matches!(pair, [0xFF, second] if !matches!(second, 0x00 | 0xFF)))?;
    let after = bytes.get(at..)?;
    match after {
        [_, marker, rest @ ..] => Some((*marker, rest)),
        _ => None,
    }
}

/// Bytes of the marker's segment, its two length bytes included; the markers without a segment have 0.
fn segment_length(marker: u8, after: &[u8]) -> Option<usize> {
    if matches!(marker, 0x01 | 0xD0..=0xD8) {
        return Some(0);
    }
    match after {
        [high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Skips entropy-coded data: up to a marker that is neither a stuffed zero nor a restart.
fn skip_scan(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .windows(2)
        .position(|pair| matches!(pair, [0xFF, second] if !matches!(second, 0x00 | 0xFF | 0xD0..=0xD7)));
    end.and_then(|at| bytes.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    const HEAD: [u8; 2] = [0xFF, 0xD8];
    /// An APP1 segment whose payload holds an end marker, as an embedded thumbnail does.
    const SEGMENT: [u8; 6] = [0xFF, 0xE1, 0x00, 0x04, 0xFF, 0xD9];
    /// A scan header of two bytes, data with a stuffed zero and a restart marker.
    const SCAN: [u8; 10] = [0xFF, 0xDA, 0x00, 0x02, 0x12, 0xFF, 0x00, 0xFF, 0xD3, 0x34];

    #[test]
    fn a_file_that_reaches_its_end_marker_is_complete() {
        let file = [&HEAD[..], &SEGMENT, &SCAN, &[0xFF, 0xD9], b"trailing video"].concat();
        assert!(is_complete(&file));
    }

    #[test]
    fn the_end_marker_of_an_embedded_thumbnail_does_not_count() {
        let file = [&HEAD[..], &SEGMENT, &SCAN].concat();
        assert!(!is_complete(&file));
    }

    #[test]
    fn every_cut_of_a_file_is_incomplete() {
        let file = [&HEAD[..], &SEGMENT, &SCAN, &SCAN, &[0xFF, 0xD9]].concat();
        for cut in 0..file.len() {
            assert!(!is_complete(&file[..cut]), "cut at {cut}");
        }
    }
}
