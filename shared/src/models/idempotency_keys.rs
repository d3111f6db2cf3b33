//! Answers that a repeated request gets again.
