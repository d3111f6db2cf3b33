//! A forgotten password: a link by mail, and choosing another one with it.

use crate::{
    auth::{
        passwords::{PasswordPolicy, acceptable},
        tokens::{RandomToken, hash},
    },
    error::ApiError,
    extract::Valid,
    idempotency::once,
    origin::{Origin, mail_base, public_base},
    state::State,
    views::Message,
};
use actix_web::{HttpRequest, HttpResponse, get, http::header::ContentType, post, web};
use chrono::{Duration, Utc};
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::Deserialize;
use serde_json::json;
use shared::{
    letter::Letter,
    models::{AuditEntry, LoginSession, NewMail, PasswordReset, User},
    queue::Hint,
};
use std::time::Duration as Span;
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;

/// How long a link works, in hours.
const HOURS: i64 = 1;

/// Most links for one user within an hour: nobody is to be flooded with mails that somebody else asked for.
const MOST: i64 = 5;

/// An answer is given after this long, or a multiple of it: how long the work took tells whether there is an account.
const EVEN: Span = Span::from_millis(250);

/// Who forgot a password.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct Forgot {
    #[garde(email, length(bytes, max = 254))]
    #[schema(format = Email, max_length = 254)]
    email: String,
}

/// Another password, and the right to choose it.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(context(PasswordPolicy))]
pub(crate) struct Reset {
    /// From the mail.
    #[garde(length(bytes, min = 1, max = 1024))]
    token: String,
    /// At least one letter and one other character; not the email.
    #[garde(custom(acceptable("")))]
    #[schema(format = Password, min_length = 8, max_length = 128)]
    new_password: String,
}

/// Ask for a link to choose another password
///
/// It is sent by mail if there is such an account; the answer is the same, and takes as long, if there is none. The link
/// works once, for an hour, and only until the next one is asked for.
#[utoipa::path(
    tag = "auth",
    request_body = Forgot,
    responses((status = 202, description = "If there is such an account, a mail is on its way", body = Message)),
)]
#[post("/auth/forgot-password")]
pub(crate) async fn forgot_password(
    state: web::Data<State>,
    request: HttpRequest,
    body: Valid<Forgot>,
) -> Result<HttpResponse, ApiError> {
    let began = Instant::now();
    let email = body.0.email.to_lowercase();
    let (fresh, base) = (RandomToken::new(), mail_base(&request));
    let mut conn = state.conn().await?;
    let hints = once(&mut conn, async |conn| {
        let user = User::find_by_email(conn, &email).await?.filter(|user| user.is_active);
        match user {
            Some(user) => send(conn, user, &fresh, &base).await,
            None => Ok(Vec::new()),
        }
    })
    .await?;
    drop(conn);
    state.hint(&hints).await;
    let turns = u32::try_from(began.elapsed().as_millis() / EVEN.as_millis()).unwrap_or(0);
    sleep_until(began + EVEN * turns.saturating_add(1)).await;
    let message = Message::new("If there is an account with this email address, a link was sent to it");
    Ok(HttpResponse::Accepted().json(message))
}

async fn send(
    conn: &mut AsyncPgConnection,
    user: User,
    fresh: &RandomToken,
    base: &str,
) -> Result<Vec<Hint>, ApiError> {
    let expires_at = Utc::now() + Duration::hours(HOURS);
    if !PasswordReset::insert(conn, user.id, &fresh.hash, expires_at, MOST).await? {
        tracing::info!(user = %user.id, "too many links to choose a password were asked for; no further one is sent");
        return Ok(Vec::new());
    }
    let reset_url = format!("{base}/reset-password?token={}", fresh.text);
    let mail = NewMail {
        user_id: user.id,
        organization_id: user.organization_id,
        to: user.email,
        letter: Letter::PasswordReset { name: user.full_name, reset_url, expires_at },
    };
    Ok(NewMail::insert(conn, vec![mail]).await?)
}

/// Choose another password with the token of a mail
///
/// All login sessions end; API keys go on.
#[utoipa::path(
    tag = "auth",
    request_body = Reset,
    responses(
        (status = 200, body = Message),
        (status = 400, description = "The token is unknown, spent or too old, or the password is too weak"),
    ),
)]
#[post("/auth/reset-password")]
pub(crate) async fn reset_password(
    state: web::Data<State>,
    origin: Origin,
    body: Valid<Reset>,
) -> Result<web::Json<Message>, ApiError> {
    let Valid(Reset { token, new_password }) = body;
    let spent = hash(&token);
    let mut conn = state.conn().await?;
    // hashing is slow: whoever guesses tokens is not to make us do it
    let user = PasswordReset::find_user(&mut conn, &spent).await?.ok_or_else(bad_token)?;
    let user = User::get(&mut conn, user).await?;
    drop(conn);
    if new_password.to_lowercase() == user.email {
        return Err(ApiError::invalid_field("new_password", "must not be the email address"));
    }
    let password = state.passwords.hash(&new_password).await?;
    let mut conn = state.conn().await?;
    once(&mut conn, async |conn| {
        if !PasswordReset::spend(conn, &spent).await? {
            return Err(bad_token());
        }
        PasswordReset::end_all(conn, user.id).await?;
        User::set_password(conn, user.id, &password).await?;
        LoginSession::end_all(conn, user.id).await?;
        let (id, organization_id) = (user.id, user.organization_id);
        let audit = origin.entry(organization_id, id, "user.password_reset", ("user", id), json!({}));
        Ok(AuditEntry::insert(conn, audit).await?)
    })
    .await?;
    Ok(web::Json(Message::new("Password changed successfully; log in with it")))
}

fn bad_token() -> ApiError {
    ApiError::invalid_field("token", "is unknown, was used, or is too old; ask for another link")
}

/// Where the link of the mail leads
///
/// A page that says how to choose another password. It has no form and no script.
#[utoipa::path(tag = "auth", responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
#[get("/reset-password")]
pub(crate) async fn show_reset_page(request: HttpRequest) -> HttpResponse {
    // nothing of the request is in it but our address: a page that repeats a token can leak it
    let base = public_base(&request).replace(['<', '>', '&', '"', '\''], "");
    let page = include_str!("../../assets/reset-password.html").replace("BASE", &base);
    HttpResponse::Ok().content_type(ContentType::html()).body(page)
}
