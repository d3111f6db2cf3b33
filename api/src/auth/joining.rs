//! Joining an organization with an invitation: what somebody new and somebody known have in common.

use super::tokens;
use crate::{error::ApiError, origin::Origin};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel_async::AsyncPgConnection;
use serde_json::json;
use shared::models::{AuditEntry, Invitation, InvitationStatus, Membership, Organization};
use uuid::Uuid;

/// A token for an invitation. It is random and long, so its plain hash may be stored.
pub(crate) fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The invitation of a token, if it is for this address (in lower case). Its organization is held until the transaction
/// ends.
///
/// # Errors
/// 404 if it is unknown, used, revoked or expired; 403 if it is for another address.
pub(crate) async fn find_invitation(
    conn: &mut AsyncPgConnection,
    token: &str,
    email: &str,
) -> Result<Invitation, ApiError> {
    let invitation = Invitation::find_open(conn, &tokens::hash(token)).await?.ok_or_else(not_found)?;
    Organization::hold(conn, invitation.organization_id).await?.ok_or_else(not_found)?;
    if invitation.email != email {
        return Err(ApiError::forbidden("This invitation is for another email address"));
    }
    Ok(invitation)
}

/// Makes the user a member, as the invitation says; it is used up then.
///
/// # Errors
/// 409 if the user is a member already; 404 if somebody was faster with the invitation.
pub(crate) async fn join(
    conn: &mut AsyncPgConnection,
    invitation: &Invitation,
    user_id: Uuid,
    origin: &Origin,
) -> Result<(), ApiError> {
    let Invitation { id, organization_id, role, .. } = *invitation;
    if !Membership::insert(conn, organization_id, user_id, role).await? {
        return Err(ApiError::conflict("You are a member of this organization already"));
    }
    if !invitation.close(conn, InvitationStatus::Accepted).await? {
        return Err(not_found());
    }
    let about = json!({ "email": invitation.email, "role": role });
    for (action, target) in [("invitation.accepted", ("invitation", id)), ("member.joined", ("user", user_id))] {
        let entry = origin.entry(organization_id, user_id, action, target, about.clone());
        AuditEntry::insert(conn, entry).await?;
    }
    Ok(())
}

fn not_found() -> ApiError {
    ApiError::not_found("Invitation")
}
