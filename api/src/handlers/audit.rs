//! The log of what changed access in the current organization.

use crate::{
    auth::Caller,
    error::ApiError,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::Time,
};
use actix_web::{HttpResponse, get, web};
use diesel::{
    QueryableByName,
    sql_types::{Nullable, Text},
};
use serde::Serialize;
use serde_json::Value;
use shared::models::AuditEntry;
use utoipa::ToSchema;
use uuid::Uuid;

/// Something that changed who may do what.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct AuditView {
    id: Uuid,
    /// Who did it; null: the system, or an account that is gone.
    actor_id: Option<Uuid>,
    /// The actor's address as it is now.
    actor_email: Option<String>,
    #[schema(example = "member.role_changed")]
    action: String,
    #[schema(example = "user")]
    target_type: String,
    target_id: Option<Uuid>,
    /// What changed.
    #[schema(value_type = Object)]
    data: Value,
    /// The address the request came from.
    ip: Option<String>,
    request_id: Option<String>,
    created_at: Time,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    entry: AuditEntry,
    #[diesel(sql_type = Nullable<Text>)]
    actor_email: Option<String>,
}

impl From<Row> for AuditView {
    fn from(Row { entry, actor_email }: Row) -> Self {
        Self {
            id: entry.id,
            actor_id: entry.actor_id,
            actor_email,
            action: entry.action,
            target_type: entry.target_type,
            target_id: entry.target_id,
            data: entry.data,
            ip: entry.ip,
            request_id: entry.request_id,
            created_at: entry.created_at.into(),
        }
    }
}

/// The entries of an organization.
static ENTRIES: ListSpec = ListSpec {
    from: "audit_entries a LEFT JOIN users u ON u.id = a.actor_id",
    columns: "a.*, u.email AS actor_email",
    condition: None,
    id: "a.id",
    default_limit: 20,
    filters: &[
        Filter { name: "action", sql: "a.action", values: Values::Text },
        Filter { name: "actor_id", sql: "a.actor_id", values: Values::Ids },
        Filter { name: "target_type", sql: "a.target_type", values: Values::Text },
        Filter { name: "target_id", sql: "a.target_id", values: Values::Ids },
    ],
    searched: &[],
    sortable: &[Sortable::new("created_at", "a.created_at", SortKind::Time)],
};

/// List what changed access in the current organization
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(
        ("action" = Option<String>, Query, description = "One or several, separated by commas"),
        ("actor_id" = Option<String>, Query, description = "One or several, separated by commas"),
        ("target_type" = Option<String>, Query, description = "One or several, separated by commas"),
        ("target_id" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of entries, newest first", body = Page<AuditView>)),
)]
#[get("/organizations/current/audit")]
pub(crate) async fn list_audit(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("a.organization_id", caller.organization_id)];
    let page: Page<Row> = list::fetch(&mut conn, &ENTRIES, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(AuditView::from).collect())))
}
