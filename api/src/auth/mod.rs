//! Who calls: passwords, tokens, login sessions, API keys.

pub(crate) mod admission;
pub(crate) mod api_keys;
pub(crate) mod caller;
pub(crate) mod identities;
pub(crate) mod joining;
pub(crate) mod mfa;
pub(crate) mod passwords;
pub(crate) mod permissions;
pub(crate) mod registration;
pub(crate) mod tokens;
pub(crate) mod tries;
pub(crate) mod uses;

pub(crate) use admission::admit;
pub(crate) use caller::{Caller, CallerId, CountsFor};
pub use passwords::PasswordPolicy;
