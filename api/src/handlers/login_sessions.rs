//! The own login sessions: where somebody is logged in, and ending that.

use crate::{
    auth::Caller,
    error::ApiError,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::Time,
};
use actix_web::{HttpResponse, delete, get, web};
use serde::Serialize;
use shared::models::LoginSession;
use utoipa::ToSchema;
use uuid::Uuid;

/// The open login sessions of one user: those that were not ended and can still be refreshed.
static SESSIONS: ListSpec = ListSpec {
    from: "login_sessions s",
    columns: "s.*",
    condition: Some(
        "s.ended_at IS NULL AND EXISTS \
         (SELECT FROM refresh_tokens t WHERE t.session_id = s.id AND t.expires_at > now())",
    ),
    id: "s.id",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "s.created_at", SortKind::Time),
        Sortable::new("last_used_at", "s.last_used_at", SortKind::Time),
    ],
};

/// A place where the user is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoginSession)]
pub(crate) struct LoginSessionView {
    id: Uuid,
    created_at: Time,
    /// A minute or so behind.
    last_used_at: Time,
    #[schema(required)]
    ip: Option<String>,
    #[schema(required)]
    user_agent: Option<String>,
    /// It is the one that asks.
    current: bool,
}

/// List login sessions
#[utoipa::path(
    tag = "auth",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of your open login sessions", body = Page<LoginSessionView>)),
)]
#[get("/auth/sessions")]
pub(crate) async fn list_sessions(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let current = caller.session()?;
    let mut conn = state.conn().await?;
    let page: Page<LoginSession> = list::fetch(&mut conn, &SESSIONS, &params, &[("s.user_id", caller.user_id)]).await?;
    let view = |session: LoginSession| LoginSessionView {
        id: session.id,
        created_at: session.created_at.into(),
        last_used_at: session.last_used_at.into(),
        ip: session.ip,
        user_agent: session.user_agent,
        current: session.id == current,
    };
    Ok(HttpResponse::Ok().json(page.with(|sessions| sessions.into_iter().map(view).collect())))
}

/// End a login session
///
/// Its tokens stop at once.
#[utoipa::path(
    tag = "auth",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "No such open login session of yours"),
    ),
)]
#[delete("/auth/sessions/{id}")]
pub(crate) async fn end_session(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    if LoginSession::end_own(&mut *state.conn().await?, *id, caller.user_id).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found("Login session"))
    }
}
