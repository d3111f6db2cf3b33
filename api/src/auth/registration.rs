//! A new account: the user, and a place in an organization. It is a personal one, or the one that an invitation is for.

use super::joining;
use crate::{
    error::{ApiError, violated},
    origin::Origin,
};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use rand::{RngExt, distr::Alphanumeric};
use serde_json::json;
use shared::models::{AuditEntry, Membership, NewAudit, NewUser, Organization, Role, User};
use uuid::Uuid;

/// How often a derived name that is taken is tried with another ending.
const TRIES: usize = 5;

/// Longest username.
const USERNAME_CHARS: usize = 30;

/// Who registers; everything checked, the email in lower case.
pub(crate) struct Registration<'a> {
    pub(crate) email: &'a str,
    /// Chosen by the user; `None` derives one from the email.
    pub(crate) username: Option<&'a str>,
    /// `None`: the username.
    pub(crate) full_name: Option<&'a str>,
    pub(crate) password_hash: &'a str,
    /// What the user was invited with.
    pub(crate) invitation_token: Option<&'a str>,
}

/// Makes the account, in the caller's transaction.
///
/// # Errors
/// 409 if the email or the chosen username is taken, 404 if the invitation cannot be accepted, 403 if it is somebody
/// else's.
pub(crate) async fn register(
    conn: &mut AsyncPgConnection,
    new: &Registration<'_>,
    origin: &Origin,
) -> Result<User, ApiError> {
    let invitation = match new.invitation_token {
        Some(token) => Some(joining::find_invitation(conn, token, new.email).await?),
        None => None,
    };
    let joined = invitation.as_ref().map(|invitation| invitation.organization_id);
    let user = insert_with_free_name(conn, new, joined, origin).await?;
    if let Some(invitation) = &invitation {
        joining::join(conn, invitation, user.id, origin).await?;
    }
    Ok(user)
}

/// Makes the account as a member of an organization that nobody has to invite into, in the caller's transaction: the
/// operator says so.
///
/// # Errors
/// 409 if the email or the chosen username is taken, 404 if there is no such organization.
pub(crate) async fn register_in(
    conn: &mut AsyncPgConnection,
    new: &Registration<'_>,
    organization_id: Uuid,
    role: Role,
    origin: &Origin,
) -> Result<User, ApiError> {
    let held = Organization::hold(conn, organization_id).await?;
    held.ok_or_else(|| ApiError::not_found("Organization"))?;
    let user = insert_with_free_name(conn, new, Some(organization_id), origin).await?;
    Membership::insert(conn, organization_id, user.id, role).await?;
    let data = json!({ "email": new.email, "role": role });
    let entry = origin.entry(organization_id, user.id, "member.joined", ("user", user.id), data);
    AuditEntry::insert(conn, NewAudit { actor_id: None, ..entry }).await?;
    Ok(user)
}

/// Stores the user under the chosen name, or one out of the email that is free.
async fn insert_with_free_name(
    conn: &mut AsyncPgConnection,
    new: &Registration<'_>,
    joined: Option<Uuid>,
    origin: &Origin,
) -> Result<User, ApiError> {
    let mut username_end = String::new();
    for _ in 0..TRIES {
        let username = match new.username {
            Some(chosen) => chosen.to_owned(),
            None => derived_username(new.email, &username_end),
        };
        let error = match insert(conn, new, &username, joined, origin).await {
            Ok(user) => return Ok(user),
            Err(error) => error,
        };
        match violated(&error) {
            Some("users_email_key") => return Err(email_taken()),
            Some("users_username_key") if new.username.is_some() => return Err(username_taken()),
            Some("users_username_key") => username_end = format!("_{}", ending()),
            _ => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("No free name was found for this account; choose a username"))
}

/// Stores the user, who works in the organization `joined`, or in a new personal one.
async fn insert(
    conn: &mut AsyncPgConnection,
    new: &Registration<'_>,
    username: &str,
    joined: Option<Uuid>,
    origin: &Origin,
) -> diesel::QueryResult<User> {
    // a transaction within the transaction: if a name is taken, only this is undone
    conn.transaction(async |conn| {
        let full_name = new.full_name.unwrap_or(username);
        let organization_id = match joined {
            Some(id) => id,
            None => Organization::create(conn, full_name).await?.id,
        };
        let user = NewUser {
            id: Uuid::now_v7(),
            email: new.email,
            username,
            full_name,
            password_hash: new.password_hash,
            organization_id,
        };
        let user = User::insert(conn, &user).await?;
        if joined.is_none() {
            Membership::insert(conn, organization_id, user.id, Role::Admin).await?;
            let data = json!({ "name": full_name, "personal": true });
            let target = ("organization", organization_id);
            let entry = origin.entry(organization_id, user.id, "organization.created", target, data);
            AuditEntry::insert(conn, entry).await?;
        }
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
}
