//! Invitations into the current organization, and accepting one. Managers and admins send them, with a role up to their own.

use super::{members::ROLES, organizations::find as find_organization};
use crate::{
    auth::{
        Caller,
        joining::{self, new_token},
        tokens,
    },
    error::ApiError,
    extract::Valid,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    origin::{Origin, mail_base},
    state::State,
    views::{OrganizationView, Time, role, words},
};
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{TimeDelta, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    letter::Letter,
    models::{AuditEntry, Invitation, InvitationStatus, Membership, NewInvitation, NewMail, Organization, Role, User},
    queue::Hint,
};
use utoipa::{ToSchema, openapi::schema::Object};
use uuid::Uuid;

/// How long an invitation can be accepted.
const GOOD_FOR: TimeDelta = TimeDelta::days(7);

/// Who is to come.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct CreateInvitation {
    /// Compared without case.
    #[garde(email, length(bytes, max = 254))]
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// Up to your own; `member` unless it is given.
    #[garde(skip)]
    #[schema(schema_with = role)]
    role: Option<Role>,
}

/// A token from an invitation.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct AcceptInvitation {
    #[garde(length(bytes, min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    token: String,
}

fn status() -> Object {
    words(InvitationStatus::WORDS)
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(crate) struct InvitationView {
    id: Uuid,
    email: String,
    #[schema(schema_with = role)]
    role: Role,
    #[schema(schema_with = status)]
    status: InvitationStatus,
    /// Null if that account is gone.
    invited_by: Option<Uuid>,
    expires_at: Time,
    created_at: Time,
}

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        Self {
            status: invitation.status_now(),
            id: invitation.id,
            email: invitation.email,
            role: invitation.role,
            invited_by: invitation.invited_by,
            expires_at: invitation.expires_at.into(),
            created_at: invitation.created_at.into(),
        }
    }
}

/// A new invitation, with what is shown only once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedInvitation {
    #[serde(flatten)]
    invitation: InvitationView,
    /// For `POST /invitations/accept`, or for `invitation_token` at the registration.
    token: String,
    /// The page that the mail leads to.
    accept_url: String,
}

/// The invitations into an organization.
static INVITATIONS: ListSpec = ListSpec {
    from: "invitations i",
    columns: "i.*",
    condition: None,
    id: "i.id",
    default_limit: 20,
    filters: &[
        Filter {
            name: "status",
            sql: "CASE WHEN i.status = 'pending' AND i.expires_at <= now() THEN 'expired' ELSE i.status END",
            values: STATUSES,
        },
        Filter { name: "role", sql: "i.role", values: ROLES },
    ],
    searched: &["i.email"],
    sortable: &[
        Sortable::new("created_at", "i.created_at", SortKind::Time),
        Sortable::new("expires_at", "i.expires_at", SortKind::Time),
        Sortable::new("email", "i.email", SortKind::Text),
    ],
};

const STATUSES: Values =
    Values::Words(&[("pending", "pending"), ("accepted", "accepted"), ("revoked", "revoked"), ("expired", "expired")]);

/// Invite somebody into the current organization
///
/// A mail goes out with the way in. The token is shown here and never again.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    request_body = CreateInvitation,
    responses(
        (status = 201, description = "The invitation with its token", body = CreatedInvitation),
        (status = 409, description = "A member already, or an invitation of this address is open"),
    ),
)]
#[post("/organizations/current/invitations")]
pub(crate) async fn create_invitation(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    request: HttpRequest,
    body: Valid<CreateInvitation>,
) -> Result<HttpResponse, ApiError> {
    let Valid(CreateInvitation { email, role }) = body;
    let role = role.unwrap_or(Role::Member);
    // roles are declared in their order, most first
    if role < caller.role {
        return Err(ApiError::forbidden(format!("You are {}; you cannot invite with a higher role", caller.role)));
    }
    let token = new_token();
    let accept_url = format!("{}/invitations/accept?token={token}", mail_base(&request));
    let new = NewInvitation {
        id: Uuid::now_v7(),
        organization_id: caller.organization_id,
        email: &email.to_lowercase(),
        role,
        hash: &tokens::hash(&token),
        invited_by: caller.user_id,
        expires_at: Utc::now() + GOOD_FOR,
    };
    let mut conn = state.conn().await?;
    let (invitation, hints) = once(&mut conn, async |conn| {
        let (id, user_id) = (caller.organization_id, caller.user_id);
        let organization = Organization::hold(conn, id).await?;
        let organization = organization.ok_or_else(|| ApiError::not_found("Organization"))?;
        if Membership::has_email(conn, id, new.email).await? {
            return Err(
                ApiError::conflict("This person is a member already").with_field("email", "is a member already")
            );
        }
        let invitation = Invitation::insert(conn, &new).await?.ok_or_else(already_invited)?;
        let data = json!({ "email": invitation.email, "role": role });
        let entry = origin.entry(id, user_id, "invitation.created", ("invitation", invitation.id), data);
        AuditEntry::insert(conn, entry).await?;
        let hints = write_letter(conn, &invitation, organization, user_id, &accept_url).await?;
        Ok((invitation, hints))
    })
    .await?;
    drop(conn);
    state.hint(&hints).await;
    Ok(HttpResponse::Created().json(CreatedInvitation { invitation: invitation.into(), token, accept_url }))
}

fn already_invited() -> ApiError {
    ApiError::conflict("An invitation of this address is open; revoke it first")
        .with_field("email", "is invited already")
}

async fn write_letter(
    conn: &mut AsyncPgConnection,
    invitation: &Invitation,
    organization: Organization,
    inviter: Uuid,
    accept_url: &str,
) -> diesel::QueryResult<Vec<Hint>> {
    let letter = Letter::Invitation {
        organization: organization.name,
        inviter: User::get(conn, inviter).await?.full_name,
        role: invitation.role.to_string(),
        accept_url: accept_url.to_owned(),
        expires_at: invitation.expires_at,
    };
    let to = invitation.email.clone();
    NewMail::insert(conn, vec![NewMail { user_id: inviter, organization_id: organization.id, to, letter }]).await
}

/// List the invitations into the current organization
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ("role" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of invitations", body = Page<InvitationView>)),
)]
#[get("/organizations/current/invitations")]
pub(crate) async fn list_invitations(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("i.organization_id", caller.organization_id)];
    let page: Page<Invitation> = list::fetch(&mut conn, &INVITATIONS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(InvitationView::from).collect())))
}

/// Take an invitation back
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It cannot be accepted any more"),
        (status = 404, description = "No such invitation of your organization"),
        (status = 409, description = "It was accepted or revoked, or has expired"),
    ),
)]
#[delete("/organizations/current/invitations/{id}")]
pub(crate) async fn revoke_invitation(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        let invitation = Invitation::find(conn, *id, caller.organization_id).await?;
        let invitation = invitation.ok_or_else(|| ApiError::not_found("Invitation"))?;
        if !invitation.close(conn, InvitationStatus::Revoked).await? {
            return Err(ApiError::conflict("The invitation is not open any more"));
        }
        let data = json!({ "email": invitation.email, "role": invitation.role });
        let target = ("invitation", invitation.id);
        let entry = origin.entry(caller.organization_id, caller.user_id, "invitation.revoked", target, data);
        Ok(AuditEntry::insert(conn, entry).await?)
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Accept an invitation
///
/// The organization becomes your current one. Whoever has no account yet registers with `invitation_token` instead.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    request_body = AcceptInvitation,
    responses(
        (status = 200, description = "The organization, which is the current one now", body = OrganizationView),
        (status = 403, description = "It is for another email address"),
        (status = 404, description = "It is unknown, used, revoked or expired"),
        (status = 409, description = "You are a member already"),
    ),
)]
#[post("/invitations/accept")]
pub(crate) async fn accept_invitation(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<AcceptInvitation>,
) -> Result<web::Json<OrganizationView>, ApiError> {
    let Valid(AcceptInvitation { token }) = body;
    let mut conn = state.conn().await?;
    let joined = once(&mut conn, async |conn| {
        let email = User::get(conn, caller.user_id).await?.email;
        let invitation = joining::find_invitation(conn, &token, &email).await?;
        joining::join(conn, &invitation, caller.user_id, &origin).await?;
        Membership::make_current(conn, invitation.organization_id, caller.user_id).await?;
        find_organization(&state, conn, invitation.organization_id, caller.user_id).await
    })
    .await?;
    Ok(web::Json(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_every_status() {
        let words: Vec<_> = InvitationStatus::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&STATUSES, Values::Words(known) if *known == words));
    }

    #[test]
    fn a_role_is_less_than_those_below_it() {
        assert!(Role::Admin < Role::Manager && Role::Manager < Role::Member && Role::Member < Role::Viewer);
    }
}
