//! Reading forms with files in them, part by part as they come: never into memory as a whole, and to their end, so that the
//! sender gets to see what is wrong with them.

use crate::error::ApiError;
use actix_multipart::{Field, Multipart};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::timeout;

/// Largest file that is accepted, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 50 * 1024 * 1024;

/// What to say of a part that came before.
pub(crate) const TWICE: &str = "This part comes more than once; send one file at a time.";

/// What to say of a part that did not come.
pub(crate) const MISSING: &str = "This part is missing.";

/// What to say of a file without bytes.
pub(crate) const EMPTY: &str = "The file is empty.";

/// A form that is longer than this is not even read to its end in order to say what is wrong with it.
const MAX_FORM_BYTES: u64 = 2 * MAX_FILE_BYTES;

/// How long a sender may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// A form that is being read.
pub(crate) struct Form {
    parts: Multipart,
    /// Bytes that may still be read.
    left: u64,
}

impl Form {
    pub(crate) fn new(parts: Multipart) -> Self {
        Self { parts, left: MAX_FORM_BYTES }
    }

    /// The next part; the one before has been read to its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Field>, ApiError> {
        match timeout(PATIENCE, self.parts.next()).await {
            Ok(field) => field.transpose().map_err(|error| unreadable(&error.to_string())),
            Err(_) => Err(silent()),
        }
    }

    /// The next piece of a part, charged against what may be read of the form at all.
    pub(crate) async fn piece(&mut self, field: &mut Field) -> Result<Option<Bytes>, ApiError> {
        let piece = match timeout(PATIENCE, field.next()).await {
            Ok(piece) => piece.transpose().map_err(|error| unreadable(&error.to_string()))?,
            Err(_) => return Err(silent()),
        };
        if let Some(piece) = &piece {
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.left = self.left.checked_sub(length).ok_or_else(|| ApiError::invalid_field("file", too_large()))?;
        }
        Ok(piece)
    }

    /// Reads a part that is of no use to its end.
    pub(crate) async fn skip(&mut self, mut field: Field) -> Result<(), ApiError> {
        while self.piece(&mut field).await?.is_some() {}
        Ok(())
    }
}

/// The name of a part's file without the folders that some senders put before it, at most 255 characters, never empty.
pub(crate) fn base_name<'a>(filename: &'a str, unnamed: &'a str) -> &'a str {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let end = name.char_indices().nth(255).map_or(name.len(), |(at, _)| at);
    match &name[..end] {
        "" | "." | ".." => unnamed,
        name => name,
    }
}

/// What to say about a file that is too large.
pub(crate) fn too_large() -> String {
    format!("The file is too large: at most {MAX_FILE_BYTES} bytes (50 MB) are accepted.")
}

fn silent() -> ApiError {
    unreadable("nothing came for 30 seconds")
}

fn unreadable(reason: &str) -> ApiError {
    ApiError::invalid_field("body", format!("The form cannot be read: {reason}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_folders() {
        assert_eq!(base_name("C:\\photos\\mug.jpg", "image"), "mug.jpg");
        assert_eq!(base_name("../../etc/mug.png", "image"), "mug.png");
        for folder in ["photos/", "..", "a/.", "", " "] {
            assert_eq!(base_name(folder, "image"), "image", "{folder:?}");
        }
        assert_eq!(base_name(&"ä".repeat(300), "image").chars().count(), 255);
    }
}
