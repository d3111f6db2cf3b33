//! The members of the current organization. Everybody sees them; admins change them.

use super::organizations::{held, last_admin};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    origin::Origin,
    state::State,
    views::{Time, role},
};
use actix_web::{HttpResponse, delete, get, put, web};
use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::AsyncConnection;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::models::{AuditEntry, Invitation, Role, User};
use utoipa::ToSchema;
use uuid::Uuid;

/// Somebody in the organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(crate) struct MemberView {
    user_id: Uuid,
    email: String,
    username: String,
    full_name: String,
    #[schema(schema_with = role)]
    role: Role,
    joined_at: Time,
}

/// Another role for a member.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdateMember {
    #[garde(skip)]
    #[schema(schema_with = role)]
    role: Role,
}

#[derive(QueryableByName)]
struct MemberRow {
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    username: String,
    #[diesel(sql_type = Text)]
    full_name: String,
    #[diesel(sql_type = Text)]
    role: Role,
    #[diesel(sql_type = Timestamptz)]
    joined_at: DateTime<Utc>,
}

impl From<MemberRow> for MemberView {
    fn from(row: MemberRow) -> Self {
        let MemberRow { user_id, email, username, full_name, role, joined_at } = row;
        Self { user_id, email, username, full_name, role, joined_at: joined_at.into() }
    }
}

/// The members of an organization; the time of creation is that of joining.
static MEMBERS: ListSpec = ListSpec {
    from: "memberships m JOIN users u ON u.id = m.user_id",
    columns: "m.user_id, u.email, u.username, u.full_name, m.role, m.joined_at",
    condition: None,
    id: "m.user_id",
    default_limit: 20,
    filters: &[Filter { name: "role", sql: "m.role", values: ROLES }],
    searched: &["u.full_name", "u.username", "u.email"],
    sortable: &[
        Sortable::new("created_at", "m.joined_at", SortKind::Time),
        Sortable::new("joined_at", "m.joined_at", SortKind::Time),
        Sortable::new("full_name", "u.full_name", SortKind::Text),
        Sortable::new("email", "u.email", SortKind::Text),
        Sortable::new("role", "m.role", SortKind::Text),
    ],
};

/// Clients and the table use the same words.
pub(super) const ROLES: Values =
    Values::Words(&[("admin", "admin"), ("manager", "manager"), ("member", "member"), ("viewer", "viewer")]);

/// List the members of the current organization
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(("role" = Option<String>, Query, description = "One or several, separated by commas"), ListQuery),
    responses((status = 200, description = "A page of members", body = Page<MemberView>)),
)]
#[get("/organizations/current/members")]
pub(crate) async fn list_members(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("m.organization_id", caller.organization_id)];
    let page: Page<MemberRow> = list::fetch(&mut conn, &MEMBERS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(MemberView::from).collect())))
}

/// Give a member another role
///
/// It counts from the next request of the member on.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(("user_id" = Uuid, Path)),
    request_body = UpdateMember,
    responses(
        (status = 200, description = "The member", body = MemberView),
        (status = 404, description = "No such member of your organization"),
        (status = 409, description = "The last admin stays one"),
    ),
)]
#[put("/organizations/current/members/{user_id}")]
pub(crate) async fn update_member(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    user_id: web::Path<Uuid>,
    body: Valid<UpdateMember>,
) -> Result<web::Json<MemberView>, ApiError> {
    let (id, user_id, role) = (caller.organization_id, *user_id, body.0.role);
    let mut conn = state.conn().await?;
    let member = conn
        .transaction(async |conn| {
            let membership = held(conn, id, user_id).await?;
            if role != Role::Admin && membership.is_last_admin(conn).await? {
                return Err(last_admin("get another role"));
            }
            let user = User::get(conn, user_id).await?;
            if role != membership.role {
                membership.set_role(conn, role).await?;
                let data = json!({ "email": user.email, "from": membership.role, "to": role });
                let entry = origin.entry(id, caller.user_id, "member.role_changed", ("user", user_id), data);
                AuditEntry::insert(conn, entry).await?;
            }
            let User { email, username, full_name, .. } = user;
            Ok(MemberView { user_id, email, username, full_name, role, joined_at: membership.joined_at.into() })
        })
        .await?;
    Ok(web::Json(member))
}

/// Remove a member
///
/// Another organization of theirs becomes their current one, or a new personal one. Invitations that they have sent and
/// nobody has accepted are revoked; their schedules go on as those of an admin.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(("user_id" = Uuid, Path)),
    responses(
        (status = 204, description = "No longer a member"),
        (status = 404, description = "No such member of your organization"),
        (status = 409, description = "The last admin stays"),
    ),
)]
#[delete("/organizations/current/members/{user_id}")]
pub(crate) async fn remove_member(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    user_id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let (id, user_id) = (caller.organization_id, *user_id);
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        let membership = held(conn, id, user_id).await?;
        if membership.is_last_admin(conn).await? {
            return Err(last_admin("be removed"));
        }
        // a token is known to whoever has made it, and is not to be a way back in
        let revoked = Invitation::revoke_of(conn, id, user_id).await?;
        let email = User::get(conn, user_id).await?.email;
        let data = json!({ "email": email, "role": membership.role, "invitations_revoked": revoked });
        let action = if user_id == caller.user_id { "member.left" } else { "member.removed" };
        AuditEntry::insert(conn, origin.entry(id, caller.user_id, action, ("user", user_id), data)).await?;
        Ok::<_, ApiError>(membership.end(conn).await?)
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_every_role() {
        let words: Vec<_> = Role::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&ROLES, Values::Words(known) if *known == words));
    }
}
