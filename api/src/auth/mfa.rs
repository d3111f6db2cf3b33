//! The second factor: codes that an app makes from a shared secret and the time (TOTP, RFC 6238), and recovery codes for
//! when the app is lost.

use anyhow::{Context, anyhow};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use sha2::{Digest, Sha256};
use shared::models::{RecoveryCode, User};
use std::time::{SystemTime, UNIX_EPOCH};
use totp_rs::{Builder, Secret, Totp};
use uuid::Uuid;

/// Seconds that a code is made for.
const STEP: u64 = 30;

/// Recovery codes of one user.
const CODES: usize = 10;

/// Letters and digits that nobody mistakes for each other when read aloud or copied by hand.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Who codes are made for, as apps show it.
const ISSUER: &str = "Atelier";

/// A new secret in base32, and the address by which an app takes it in.
pub(crate) fn new_secret(email: &str) -> anyhow::Result<(String, String)> {
    // the form of the address knows no colon in a name
    let account = email.replace(':', "_");
    let totp = builder(Secret::generate()).with_account_name(account).with_issuer(Some(ISSUER)).build();
    let totp = totp.map_err(|error| anyhow!("no second factor could be made: {error}"))?;
    let url = totp.to_url().map_err(|error| anyhow!("no address could be made: {error}"))?;
    Ok((totp.secret().to_base32(), url))
}

/// The time step that a code was made for: this one, or a neighbour of it. `None`: the code is wrong.
pub(crate) fn step_of(code: &str, secret: &str) -> anyhow::Result<Option<i64>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let step = totp(secret)?.check(&tidy(code), now);
    step.map(|step| Ok(i64::try_from(step)?)).transpose()
}

fn totp(secret: &str) -> anyhow::Result<Totp> {
    let secret = Secret::try_from_base32(secret).map_err(|_| anyhow!("a stored secret is broken"))?;
    builder(secret).build().map_err(|error| anyhow!("a stored secret cannot be used: {error}"))
}

// SHA-1, six digits, half a minute and one step of skew: what every app understands
fn builder(secret: Secret) -> Builder {
    Builder::new().with_secret(secret).with_step_duration(STEP)
}

/// New recovery codes: what the user gets once, and what is stored.
pub(crate) fn new_recovery_codes(user_id: Uuid) -> (Vec<String>, Vec<Vec<u8>>) {
    let codes: Vec<String> = (0..CODES).map(|_| recovery_code()).collect();
    let hashes = codes.iter().map(|code| hash(user_id, code)).collect();
    (codes, hashes)
}

fn recovery_code() -> String {
    let mut code: String = rand::random::<[u8; 10]>()
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)).copied().map(char::from))
        .collect();
    code.insert(code.len() / 2, '-');
    code
}

/// The same code belongs to other hashes for other users, so that nobody tries one against all.
fn hash(user_id: Uuid, code: &str) -> Vec<u8> {
    let letters = tidy(code).to_ascii_lowercase().replace('-', "");
    Sha256::new().chain_update(user_id).chain_update(letters).finalize().to_vec()
}

fn tidy(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Takes a code of the second factor, or a recovery code, of a user who has it switched on. Each counts once; `false`: it is
/// wrong or was taken before. Belongs into the transaction of what it is taken for.
pub(crate) async fn take(conn: &mut AsyncPgConnection, user_id: Uuid, code: &str) -> QueryResult<bool> {
    let secret = User::mfa_secret(conn, user_id).await?;
    let step = match secret.map(|secret| step_of(code, &secret)).transpose() {
        Ok(step) => step.flatten(),
        Err(error) => return Err(diesel::result::Error::DeserializationError(error.into())),
    };
    match step {
        Some(step) => User::take_mfa_step(conn, user_id, step).await,
        None => RecoveryCode::spend(conn, user_id, &hash(user_id, code)).await,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn a_code_of_this_step_and_its_neighbours_is_right_and_others_are_not() {
        let (secret, url) = new_secret("ada:l@example.com").unwrap();
        assert!(url.starts_with("otpauth://totp/") && url.contains("issuer=Atelier") && url.contains(&secret), "{url}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let code = |at: u64| totp(&secret).unwrap().generate(at).to_string();
        let found = step_of(&format!(" {} {}", &code(now)[..3], &code(now)[3..]), &secret).unwrap().unwrap();
        assert!(found.unsigned_abs().abs_diff(now / STEP) <= 1);
        assert!(step_of(&code(now - STEP), &secret).unwrap().is_some());
        for wrong in ["", "12345", "1234567", "abcdef", "+12345", &code(now - 10 * STEP), &code(now + 10 * STEP)] {
            assert!(step_of(wrong, &secret).unwrap().is_none(), "{wrong:?}");
        }
        assert!(step_of("123456", "not base32!").is_err());
    }

    #[test]
    fn recovery_codes_differ_and_may_be_typed_carelessly() {
        let user = Uuid::from_u128(1);
        let (codes, hashes) = new_recovery_codes(user);
        assert_eq!((codes.len(), hashes.len()), (10, 10));
        let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), 10);
        let (one, stored) = (&codes[0], &hashes[0]);
        assert!(one.len() == 11 && one.as_bytes()[5] == b'-', "{one}");
        assert_eq!(&hash(user, &format!(" {} ", one.to_uppercase().replace('-', " "))), stored);
        assert_ne!(&hash(Uuid::from_u128(2), one), stored);
    }
}
