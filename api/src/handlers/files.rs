//! Files. Only their owner sees them; those that the owner's orchestrations have written are among them.

use crate::{
    auth::Caller,
    error::ApiError,
    file_urls::FileUrls,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::{FileView, Message},
};
use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use shared::models::File;
use uuid::Uuid;

/// The files of one user.
static FILES: ListSpec = ListSpec {
    from: "files f",
    columns: "f.*",
    condition: None,
    id: "f.id",
    default_limit: 50,
    filters: &[],
    searched: &["f.filename"],
    sortable: &[
        Sortable::new("created_at", "f.created_at", SortKind::Time),
        Sortable::new("filename", "f.filename", SortKind::Text),
        Sortable::new("size", "f.size", SortKind::Integer),
    ],
};

/// List files
#[utoipa::path(
    tag = "files",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of files", body = Page<FileView>)),
)]
#[get("/files")]
pub(crate) async fn list_files(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<File> = list::fetch(&mut conn, &FILES, &params, &[("f.user_id", caller.user_id)]).await?;
    let urls = FileUrls::new(&request, &state);
    Ok(HttpResponse::Ok().json(page.with(|files| files.into_iter().map(|file| FileView::new(file, &urls)).collect())))
}

/// Show a file
///
/// `url` is signed anew each time.
#[utoipa::path(
    tag = "files",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The file", body = FileView),
        (status = 404, description = "No such file of yours"),
    ),
)]
#[get("/files/{id}")]
pub(crate) async fn get_file(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let file = File::find(&mut *state.conn().await?, *id, caller.user_id).await?.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(FileView::new(file, &FileUrls::new(&request, &state))))
}

/// Delete a file
///
/// The bytes go too, and URLs that were signed before stop at once.
#[utoipa::path(
    tag = "files",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is gone", body = Message),
        (status = 404, description = "No such file of yours"),
    ),
)]
#[delete("/files/{id}")]
pub(crate) async fn delete_file(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    if !File::delete(&mut *state.conn().await?, *id, caller.user_id).await? {
        return Err(missing());
    }
    Ok(HttpResponse::Ok().json(Message::new("File deleted successfully")))
}

/// 404.
pub(super) fn missing() -> ApiError {
    ApiError::not_found("File")
}
