//! The link at the end of a notice: who holds it may end the notices by mail of one user, without logging in.
//!
//! Opening it only shows a page with a button, because mail scanners open every link. The button, and the mail programs
//! that have a button of their own (RFC 8058), send the POST that does it.

use crate::{error::ApiError, idempotency, state::State};
use actix_web::{HttpResponse, get, http::header::CONTENT_SECURITY_POLICY, post, web};
use shared::models::User;
use uuid::Uuid;

/// The page has one form, which leads back to its own address.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

const ASK: &str = "<h1>No more notices by mail?</h1>\
    <p>You will not hear by mail any more when a batch or a run has ended, when much of a quota is used, or when a webhook \
    was switched off. Mails that you ask for, such as those for a new password, still come.</p>\
    <form method=\"post\"><button>No more notices</button></form>";

const DONE: &str = "<h1>Done</h1>\
    <p>You get no more notices by mail. To get them again, set <code>notifications.email</code> in your preferences.</p>";

/// A page with the button that ends the notices by mail; opening it changes nothing.
#[utoipa::path(
    tag = "users",
    params(("token" = Uuid, Path, description = "From the end of a notice")),
    responses(
        (status = 200, content_type = "text/html", body = String),
        (status = 404, description = "No user has this token")
    )
)]
#[get("/mail/unsubscribe/{token}")]
pub(crate) async fn get_unsubscribe_page(
    state: web::Data<State>,
    token: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    if User::has_unsubscribe_token(&mut conn, *token).await? { Ok(page(ASK)) } else { Err(unknown()) }
}

/// Ends the notices by mail of the user with this token, with one click (RFC 8058); no credentials are needed.
#[utoipa::path(
    tag = "users",
    params(("token" = Uuid, Path, description = "From the end of a notice")),
    responses(
        (status = 200, content_type = "text/html", body = String),
        (status = 404, description = "No user has this token")
    )
)]
#[post("/mail/unsubscribe/{token}")]
pub(crate) async fn unsubscribe(state: web::Data<State>, token: web::Path<Uuid>) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    idempotency::once(
        &mut conn,
        async |conn| {
            if User::unsubscribe(conn, *token).await? { Ok(()) } else { Err(unknown()) }
        },
    )
    .await?;
    Ok(page(DONE))
}

fn unknown() -> ApiError {
    ApiError::not_found("Link")
}

fn page(content: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Atelier: notices by mail</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><style>\
         body{{font:18px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;padding:0 1rem;color-scheme:light dark}}\
         button{{font:inherit;padding:.6rem 1.4rem;cursor:pointer}}</style></head><body>{content}</body></html>\n"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(html)
}
