//! Invitations into organizations, found by the SHA-256 of their token.
