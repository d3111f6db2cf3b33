//! A new account: the user, a personal organization, and the admin's place in it, all or nothing.

use crate::error::{ApiError, violated};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use rand::{RngExt, distr::Alphanumeric};
use shared::models::{NewUser, Organization, Role, User};
use uuid::Uuid;

/// How often a derived name that is taken is tried with another ending.
const TRIES: usize = 5;

/// Longest username.
const USERNAME_CHARS: usize = 30;

/// Longest slug before its ending.
const SLUG_CHARS: usize = 60;

/// Who registers; everything checked, the email in lower case.
pub(crate) struct Registration<'a> {
    pub(crate) email: &'a str,
    /// Chosen by the user; `None` derives one from the email.
    pub(crate) username: Option<&'a str>,
    /// `None`: the username.
    pub(crate) full_name: Option<&'a str>,
    pub(crate) password_hash: &'a str,
}

/// Makes the account.
///
/// # Errors
/// 409 if the email or the chosen username is taken.
pub(crate) async fn register(conn: &mut AsyncPgConnection, new: &Registration<'_>) -> Result<User, ApiError> {
    let (mut username_end, mut slug_end) = (String::new(), String::new());
    for _ in 0..TRIES {
        let username = match new.username {
            Some(chosen) => chosen.to_owned(),
            None => derived_username(new.email, &username_end),
        };
        let full_name = new.full_name.unwrap_or(&username);
        let slug = format!("{}{slug_end}", slug(full_name));
        let error = match insert(conn, new, &username, full_name, &slug).await {
            Ok(user) => return Ok(user),
            Err(error) => error,
        };
        match violated(&error) {
            Some("users_email_key") => return Err(email_taken()),
            Some("users_username_key") if new.username.is_some() => return Err(username_taken()),
            Some("users_username_key") => username_end = format!("_{}", ending()),
            Some("organizations_slug_key") => slug_end = format!("-{}", ending()),
            _ => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("No free name was found for this account; choose a username"))
}

async fn insert(
    conn: &mut AsyncPgConnection,
    new: &Registration<'_>,
    username: &str,
    full_name: &str,
    slug: &str,
) -> diesel::QueryResult<User> {
    conn.transaction(async |conn| {
        let organization_id = Uuid::now_v7();
        Organization::insert(conn, organization_id, full_name, slug).await?;
        let user = NewUser {
            id: Uuid::now_v7(),
            email: new.email,
            username,
            full_name,
            password_hash: new.password_hash,
            organization_id,
        };
        let user = User::insert(conn, &user).await?;
        Organization::insert_member(conn, organization_id, user.id, Role::Admin).await?;
        Ok(user)
    })
    .await
}

pub(crate) fn email_taken() -> ApiError {
    ApiError::conflict("This email address is already registered; log in, or use another one")
        .with_field("email", "is already registered")
}

pub(crate) fn username_taken() -> ApiError {
    ApiError::conflict("This username is taken; choose another one").with_field("username", "is taken")
}

/// A username out of the email's local part, with room for the ending.
fn derived_username(email: &str, end: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let kept = local.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let mut username: String = kept.take(USERNAME_CHARS - end.len().min(USERNAME_CHARS)).collect();
    username.push_str(end);
    while username.len() < 3 {
        username.push('_');
    }
    username
}

/// A name for URLs.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase).take(SLUG_CHARS) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "organization".to_owned() } else { slug.to_owned() }
}

fn ending() -> String {
    rand::rng().sample_iter(Alphanumeric).take(6).map(|byte| char::from(byte).to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_derived_from_the_email() {
        for (email, username) in [
            ("ada.lovelace+x@example.com", "ada_lovelace_x"),
            ("a@example.com", "a__"),
            ("0123456789012345678901234567890123@example.com", "012345678901234567890123456789"),
        ] {
            assert_eq!(derived_username(email, ""), username);
        }
        assert_eq!(derived_username("0123456789012345678901234567890123@example.com", "_abc123").len(), 30);
    }

    #[test]
    fn a_slug_has_only_what_a_url_likes() {
        for (name, expected) in [
            ("Ada Lovelace", "ada-lovelace"),
            ("  Müller & Söhne GmbH ", "m-ller-s-hne-gmbh"),
            ("株式会社", "organization"),
        ] {
            assert_eq!(slug(name), expected);
        }
    }
}
