//! The end of the own account.

use super::jobs::tell_stopped;
use crate::{
    auth::{Caller, tries::Try},
    error::{ApiError, Code},
    extract::Valid,
    state::State,
};
use actix_web::{HttpResponse, delete, web};
use diesel::OptionalExtension;
use diesel_async::AsyncConnection;
use garde::Validate;
use serde::Deserialize;
use shared::models::{AccountDeletion, DeletedAccount, User};
use utoipa::ToSchema;

/// The password once more: a stolen token is not enough.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct DeleteAccount {
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password, min_length = 1, max_length = 1024)]
    password: String,
}

/// Delete the own account
///
/// Products, images, conversations, keys and webhooks go, and work that has not ended stops. Pipelines, schedules and runs
/// that other members of an organization see become those of an admin; an organization that nobody else belongs to goes.
#[utoipa::path(
    tag = "users",
    security(("bearer" = [])),
    request_body = DeleteAccount,
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "Wrong password, or no valid credentials"),
        (status = 409, description = "You are the last admin of an organization with other members"),
    ),
)]
#[delete("/users/me")]
pub(crate) async fn delete_user_me(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<DeleteAccount>,
) -> Result<HttpResponse, ApiError> {
    let user = User::get(&mut *state.conn().await?, caller.user_id).await.optional()?;
    // of two requests at once the second comes too late
    let user = user.ok_or_else(ApiError::unauthenticated)?;
    let attempt = Try::begin(&state, &user.email).await?;
    if !state.passwords.verify(&body.0.password, Some(&user.password_hash)).await? {
        return Err(attempt.failed(ApiError::new(Code::InvalidCredentials, "The password is wrong")).await);
    }
    drop(attempt);
    let mut conn = state.conn().await?;
    let deleted = conn
        .transaction(async |conn| match DeletedAccount::delete(conn, caller.user_id).await? {
            AccountDeletion::Done(deleted) => Ok(deleted),
            AccountDeletion::LastAdmin(name) => Err(ApiError::conflict(format!(
                "You are the last admin of \"{name}\", which has other members; make one of them an admin first"
            ))),
        })
        .await?;
    drop(conn);
    tell_stopped(&state, &deleted.stopped).await;
    Ok(HttpResponse::NoContent().finish())
}
