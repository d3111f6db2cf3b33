//! Passwords: what they must be like, and Argon2id, which is slow on purpose.
//!
//! Hashing takes a core for tens of milliseconds and 19 MiB, so it runs on threads of its own, as many at once as there
//! are cores: a flood of logins waits in line instead of starving everything else.

use crate::error::ApiError;
use anyhow::{Context, anyhow};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use std::{str::FromStr, sync::Arc, thread::available_parallelism, time::Duration};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// How long a request waits for its turn to hash.
const PATIENCE: Duration = Duration::from_secs(5);

/// How strict the installation is about new passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PasswordPolicy {
    /// 8–128 characters, a letter and something else.
    #[default]
    Standard,
    /// Also an upper case letter, a lower case letter and a digit.
    Strict,
}

impl FromStr for PasswordPolicy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "standard" => Ok(Self::Standard),
            "strict" => Ok(Self::Strict),
            other => Err(format!("{other:?} is neither standard nor strict")),
        }
    }
}

/// The rule for a new password, for garde: `#[garde(custom(acceptable(&self.email)))]`. The email may be empty.
pub(crate) fn acceptable<'a>(email: &'a str) -> impl FnOnce(&str, &PasswordPolicy) -> garde::Result + use<'a> {
    move |password, policy| match weakness(password, email, *policy) {
        Some(weakness) => Err(garde::Error::new(weakness)),
        None => Ok(()),
    }
}

/// What is wrong with a new password.
pub(crate) fn weakness(password: &str, email: &str, policy: PasswordPolicy) -> Option<&'static str> {
    if !(8..=128).contains(&password.chars().count()) {
        return Some("must have 8 to 128 characters");
    }
    if !email.is_empty() && password.to_lowercase() == email.to_lowercase() {
        return Some("must not be the email address");
    }
    let has = |what: fn(char) -> bool| password.chars().any(what);
    if !has(char::is_alphabetic) || !has(|c| !c.is_alphabetic()) {
        return Some("must have at least one letter and one other character");
    }
    let strict = has(char::is_uppercase) && has(char::is_lowercase) && has(|c| c.is_ascii_digit());
    if policy == PasswordPolicy::Strict && !strict {
        return Some("must have an upper case letter, a lower case letter and a digit");
    }
    None
}

/// Hashes and verifies passwords, so many at once.
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    /// Verified when there is no account, so that the answer takes as long as for one.
    decoy: String,
}

impl Hasher {
    /// Takes as long as one hash.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        Ok(Self { turns: Arc::new(Semaphore::new(cores)), decoy: hash_now(&rand::random::<[u8; 16]>())? })
    }

    /// The hash of a password in PHC form.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let password = password.to_owned();
        self.in_turn(move || hash_now(password.as_bytes())).await
    }

    /// Whether the password belongs to the hash. Without a hash it takes as long and says no.
    pub(crate) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, ApiError> {
        let (password, known) = (password.to_owned(), hash.is_some());
        let hash = hash.unwrap_or(&self.decoy).to_owned();
        let right = self
            .in_turn(move || {
                let hash = PasswordHash::new(&hash).map_err(|error| anyhow!("a stored hash is broken: {error}"))?;
                Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(right && known)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(ApiError::unavailable("Too many logins at once; try again", 1));
        };
        // the permit goes with the work, which is not stopped when the client hangs up
        let done = spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.context("hashing was cut off").and_then(|result| result).map_err(ApiError::internal)
    }
}

fn hash_now(password: &[u8]) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(password).map_err(|error| anyhow!("hashing failed: {error}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn refused(password: &str, policy: PasswordPolicy) -> bool {
        weakness(password, "ada@example.com", policy).is_some()
    }

    #[test]
    fn a_password_has_a_letter_and_something_else_and_the_right_length() {
        for good in ["password123", "secure_password", "securepass123", "ünïcödé 1", &format!("a1{}", "x".repeat(126))]
        {
            assert!(!refused(good, PasswordPolicy::Standard), "{good:?} was refused");
        }
        for bad in ["", "short1!", "onlyletters", "12345678", "ADA@example.com", &format!("a1{}", "x".repeat(127))] {
            assert!(refused(bad, PasswordPolicy::Standard), "{bad:?} was accepted");
        }
    }

    #[test]
    fn strict_asks_for_both_cases_and_a_digit() {
        assert!(refused("password123", PasswordPolicy::Strict));
        assert!(refused("Password!", PasswordPolicy::Strict));
        assert!(!refused("Password123", PasswordPolicy::Strict));
    }

    #[tokio::test]
    async fn only_the_right_password_is_verified_and_nobody_has_the_decoy() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse 1").await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(hasher.verify("correct horse 1", Some(&hash)).await.unwrap());
        assert!(!hasher.verify("correct horse 2", Some(&hash)).await.unwrap());
        assert!(!hasher.verify("correct horse 1", None).await.unwrap());
    }
}
