//! Who calls: passwords, tokens, login sessions.

pub(crate) mod caller;
pub(crate) mod passwords;
pub(crate) mod registration;
pub(crate) mod tokens;

pub(crate) use caller::{Caller, CallerId, Writer, identify};
pub use passwords::PasswordPolicy;
