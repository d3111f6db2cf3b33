//! The git repository of a project, as one file that `git clone` reads.

use crate::{
    auth::Caller,
    error::ApiError,
    state::State,
    views::{Time, URL_VALID},
};
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use shared::models::ProjectRepository;
use utoipa::ToSchema;
use uuid::Uuid;

/// A repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectRepository)]
pub(crate) struct RepositoryView {
    /// The newest commit.
    head: String,
    #[schema(example = "main")]
    branch: &'static str,
    commits: i32,
    /// Bytes of the bundle.
    size: i64,
    /// Where the bundle is, signed; `git clone` reads what it gives.
    url: String,
    updated_at: Time,
}

/// Show the repository of a project
///
/// It has a commit for each phase of the orchestrations whose template integrates `git`.
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    params(("project_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The repository", body = RepositoryView),
        (status = 404, description = "No such project in your organization, or nothing was committed yet"),
    ),
)]
#[get("/projects/{project_id}/repository")]
pub(crate) async fn get_repository(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let found = ProjectRepository::find_in_organization(&mut conn, *id, caller.organization_id).await?;
    drop(conn);
    let repository = found.ok_or_else(|| ApiError::not_found("Repository"))?;
    let url = state.storage.presign_get(&repository.s3_key, URL_VALID).await.map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().json(RepositoryView {
        head: repository.head,
        branch: "main",
        commits: repository.commits,
        size: repository.size,
        url,
        updated_at: repository.updated_at.into(),
    }))
}
