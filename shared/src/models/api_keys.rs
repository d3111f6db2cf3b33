//! Keys for scripts: found by their SHA-256, and never shown again.
