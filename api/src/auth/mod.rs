//! Who calls: passwords, tokens, login sessions.

pub mod caller;
pub(crate) mod passwords;
pub(crate) mod registration;
pub(crate) mod tokens;

pub use caller::{Caller, Writer};
