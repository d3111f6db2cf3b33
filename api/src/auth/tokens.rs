//! Access tokens (JWT, HS256) and refresh tokens (random text, stored by its SHA-256).
//!
//! An access token only says which login session it belongs to; whether that session is still open, and what its user
//! may do, is read from the database at each request.

use crate::config::Config;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::models::Role;
use std::time::Duration;
use uuid::Uuid;

/// Who signs, and for whom. A token that another system signed with the same secret is refused.
const ISSUER: &str = "atelier";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user.
    pub(crate) sub: Uuid,
    /// The login session.
    pub(crate) sid: Uuid,
    /// The organization at the time of issue; what counts is read from the database.
    pub(crate) org: Uuid,
    /// The role at the time of issue, likewise.
    pub(crate) role: Role,
    #[serde(rename = "type")]
    kind: TokenType,
    /// Seconds since 1970.
    pub(crate) iat: i64,
    /// Seconds since 1970.
    pub(crate) exp: i64,
    /// Unique for each token.
    pub(crate) jti: Uuid,
    iss: String,
    aud: String,
}

/// Only tokens of this type open the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TokenType {
    Access,
}

/// The signing keys and how long tokens are good.
pub(crate) struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    access_ttl: Duration,
    refresh_ttl: Duration,
}

/// A new refresh token: what the client gets, and what is stored.
pub(crate) struct RefreshToken {
    pub(crate) text: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl Keys {
    pub(crate) fn new(config: &Config) -> Self {
        let secret = config.jwt_secret.expose().as_bytes();
        // the list of algorithms is ours, not the token's: `none` and others are refused
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            access_ttl: config.access_token_ttl,
            refresh_ttl: config.refresh_token_ttl,
        }
    }

    /// Seconds that an access token is good.
    pub(crate) const fn expires_in(&self) -> u64 {
        self.access_ttl.as_secs()
    }

    /// Signs an access token.
    pub(crate) fn access(&self, user: Uuid, session: Uuid, organization: Uuid, role: Role) -> anyhow::Result<String> {
        let issued = Utc::now();
        let claims = Claims {
            sub: user,
            sid: session,
            org: organization,
            role,
            kind: TokenType::Access,
            iat: issued.timestamp(),
            exp: (issued + self.access_ttl).timestamp(),
            jti: Uuid::new_v4(),
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
        };
        Ok(encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?)
    }

    /// What a token says, if it is one of ours, an access token, and not expired.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        decode::<Claims>(token, &self.decoding, &self.validation).ok().map(|token| token.claims)
    }

    /// Makes a refresh token.
    pub(crate) fn refresh(&self) -> RefreshToken {
        let RandomToken { text, hash } = RandomToken::new();
        RefreshToken { text, hash, expires_at: Utc::now() + self.refresh_ttl }
    }
}

/// A random token: what the client gets, and what is stored.
pub(crate) struct RandomToken {
    pub(crate) text: String,
    pub(crate) hash: Vec<u8>,
}

impl RandomToken {
    pub(crate) fn new() -> Self {
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        Self { hash: hash(&text), text }
    }
}

/// As a random token is stored: it is long, so a plain hash is enough.
pub(crate) fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use serde_json::{Value, json};
    use shared::config::Secret;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn keys() -> Keys {
        let mut config = crate::config::for_tests();
        config.jwt_secret = Secret::new(SECRET);
        Keys::new(&config)
    }

    fn signed(change: impl FnOnce(&mut Value), header: &Header, secret: &str) -> String {
        let mut claims = json!({
            "sub": Uuid::nil(), "sid": Uuid::nil(), "org": Uuid::nil(), "role": "admin", "type": "access",
            "iat": Utc::now().timestamp(), "exp": Utc::now().timestamp() + 60, "jti": Uuid::nil(),
            "iss": ISSUER, "aud": ISSUER,
        });
        change(&mut claims);
        encode(header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_token_of_ours_is_read_back() {
        let (user, session, organization) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let keys = keys();
        let token = keys.access(user, session, organization, Role::Viewer).unwrap();
        let claims = keys.read(&token).unwrap();
        assert_eq!((claims.sub, claims.sid, claims.org, claims.role), (user, session, organization, Role::Viewer));
        assert_eq!(claims.exp - claims.iat, 3600);
    }

    #[test]
    fn what_is_not_exactly_an_access_token_of_ours_is_refused() {
        let keys = keys();
        let hs256 = Header::new(Algorithm::HS256);
        assert!(keys.read(&signed(|_| {}, &hs256, SECRET)).is_some(), "the unchanged claims are good");
        let changes: [(&str, Value); 6] = [
            ("exp", json!(Utc::now().timestamp() - 1)),
            ("type", json!("refresh")),
            ("iss", json!("elsewhere")),
            ("aud", json!("elsewhere")),
            ("sub", json!("root")),
            ("role", json!("superuser")),
        ];
        for (claim, value) in changes {
            let token = signed(|claims| claims[claim] = value.clone(), &hs256, SECRET);
            assert!(keys.read(&token).is_none(), "{claim} = {value} was accepted");
        }
        assert!(keys.read(&signed(|_| {}, &hs256, "another secret of enough bytes..")).is_none());
        assert!(keys.read(&signed(|_| {}, &Header::new(Algorithm::HS512), SECRET)).is_none());
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let keys = keys();
        let token = signed(|_| {}, &Header::new(Algorithm::HS256), SECRET);
        let claims = token.split('.').nth(1).unwrap();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for forged in [format!("{header}.{claims}."), format!("{header}.{claims}"), String::new(), "a.b.c".to_owned()] {
            assert!(keys.read(&forged).is_none(), "{forged:?} was accepted");
        }
    }

    #[test]
    fn refresh_tokens_differ_and_are_found_by_their_hash() {
        let (one, other) = (keys().refresh(), keys().refresh());
        assert_ne!(one.text, other.text);
        assert_eq!(hash(&one.text), one.hash);
        assert!(one.expires_at > Utc::now() + chrono::Duration::days(29));
    }
}
