//! Who calls: passwords, tokens, login sessions.

pub(crate) mod admission;
pub(crate) mod caller;
pub(crate) mod joining;
pub(crate) mod passwords;
pub(crate) mod permissions;
pub(crate) mod registration;
pub(crate) mod tokens;

pub(crate) use admission::admit;
pub(crate) use caller::{Caller, CallerId};
pub use passwords::PasswordPolicy;
