//! Accounts and logins: register, log in, get new tokens, log out, change the password.

use crate::{
    auth::{
        Caller, mfa,
        passwords::{PasswordPolicy, acceptable},
        registration::{self, Registration},
        tokens,
        tries::Try,
    },
    error::{ApiError, Code},
    extract::{Valid, not_blank},
    idempotency::once,
    origin::{Origin, client_ip},
    state::State,
    views::{AuthUser, Message, TokenSet, username_rule},
};
use actix_web::{HttpRequest, HttpResponse, http::header::USER_AGENT, post, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::models::{Account, AuditEntry, LoginSession, PasswordReset, Redeemed, User};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest part of a `User-Agent` that is kept.
const AGENT_CHARS: usize = 300;

/// Who registers.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(context(PasswordPolicy))]
pub(crate) struct Register {
    /// Compared without case.
    #[garde(email, length(bytes, max = 254))]
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// At least one letter and one other character; not the email.
    #[garde(custom(acceptable(&self.email)))]
    #[schema(format = Password, min_length = 8, max_length = 128)]
    password: String,
    /// The same again.
    #[garde(custom(same_as(&self.password)))]
    confirm_password: Option<String>,
    /// Made from the email if it is missing.
    #[garde(inner(custom(username_rule)))]
    #[schema(pattern = "^[A-Za-z0-9_]{3,30}$")]
    username: Option<String>,
    /// The username if it is missing.
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Another name of `name`.
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)), custom(same_name(&self.name)))]
    #[schema(min_length = 1, max_length = 100)]
    full_name: Option<String>,
    /// Joins the organization that the invitation is for; there will be no own one.
    #[garde(length(bytes, min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    invitation_token: Option<String>,
}

fn same_as(password: &str) -> impl FnOnce(&Option<String>, &PasswordPolicy) -> garde::Result {
    move |repeated, _| match repeated {
        Some(repeated) if repeated != password => Err(garde::Error::new("must be equal to password")),
        Some(_) | None => Ok(()),
    }
}

fn same_name<C>(name: &Option<String>) -> impl FnOnce(&Option<String>, &C) -> garde::Result {
    move |full_name, _| match (name, full_name) {
        (Some(name), Some(full_name)) if name != full_name => {
            Err(garde::Error::new("differs from name; send one of them"))
        }
        (_, _) => Ok(()),
    }
}

/// A new account with its first tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct Registered {
    id: Uuid,
    email: String,
    full_name: String,
    is_active: bool,
    created_at: crate::views::Time,
    user: AuthUser,
    #[serde(flatten)]
    tokens: TokenSet,
}

/// Make an account, with an organization of its own or in the one that it is invited into.
#[utoipa::path(
    tag = "auth",
    request_body = Register,
    responses(
        (status = 201, body = Registered),
        (status = 403, description = "The invitation is for another email address"),
        (status = 404, description = "The invitation is unknown, used, revoked or expired"),
        (status = 409, description = "Email or username is taken"),
    )
)]
#[post("/auth/register")]
pub(crate) async fn register(
    state: web::Data<State>,
    body: Valid<Register>,
    origin: Origin,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Valid(new) = body;
    let password_hash = state.passwords.hash(&new.password).await?;
    let mut conn = state.conn().await?;
    let registration = Registration {
        email: &new.email.to_lowercase(),
        username: new.username.as_deref(),
        full_name: new.name.as_deref().or(new.full_name.as_deref()),
        password_hash: &password_hash,
        invitation_token: new.invitation_token.as_deref(),
    };
    let (account, tokens) = once(&mut conn, async |conn| {
        let user = registration::register(conn, &registration, &origin).await?;
        let account = Account::get(conn, user.id).await?;
        let tokens = open_session(&state, conn, &account, &request).await?;
        Ok((account, tokens))
    })
    .await?;
    let user = &account.user;
    Ok(HttpResponse::Created().json(Registered {
        id: user.id,
        email: user.email.clone(),
        full_name: user.full_name.clone(),
        is_active: user.is_active,
        created_at: user.created_at.into(),
        user: AuthUser::new(&account),
        tokens,
    }))
}

/// Who logs in.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Login {
    #[garde(length(bytes, min = 1, max = 254))]
    #[schema(format = Email, min_length = 1, max_length = 254)]
    email: String,
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password, min_length = 1, max_length = 1024)]
    password: String,
    /// Of the second factor, if it is on: the code that the app shows, or a recovery code.
    #[garde(length(bytes, max = 64))]
    #[schema(max_length = 64, example = "123456")]
    mfa_code: Option<String>,
}

/// Tokens, and whose they are.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoggedIn {
    user: AuthUser,
    #[serde(flatten)]
    tokens: TokenSet,
}

/// Log in with email and password.
#[utoipa::path(
    tag = "auth",
    request_body = Login,
    responses(
        (status = 200, body = LoggedIn),
        (status = 401, description = "Wrong email or password, or a disabled account; or `MFA_REQUIRED`: `mfa_code` is \
                                      missing or wrong"),
    )
)]
#[post("/auth/login")]
pub(crate) async fn login(
    state: web::Data<State>,
    body: Valid<Login>,
    request: HttpRequest,
) -> Result<web::Json<LoggedIn>, ApiError> {
    let Valid(login) = body;
    let attempt = Try::begin(&state, &login.email).await?;
    let user = User::find_by_email(&mut *state.conn().await?, &login.email.to_lowercase()).await?;
    let hash = user.as_ref().map(|user| user.password_hash.as_str());
    // verified without an account too, so that the time tells nothing
    let right = state.passwords.verify(&login.password, hash).await?;
    let Some(user) = user.filter(|user| right && user.is_active) else {
        return Err(attempt.failed(ApiError::new(Code::InvalidCredentials, "Wrong email or password")).await);
    };
    let code = login.mfa_code.as_deref().map(str::trim).filter(|code| !code.is_empty());
    let mut conn = state.conn().await?;
    let logged_in = once(&mut conn, async |conn| {
        // only who knows the password gets here, so that nobody else learns whether there is a second factor
        if user.mfa_enabled {
            check_factor(conn, user.id, code).await?;
        }
        let account = Account::get(conn, user.id).await?;
        let tokens = open_session(&state, conn, &account, &request).await?;
        Ok((account, tokens))
    })
    .await;
    drop(conn);
    match logged_in {
        Ok((account, tokens)) => Ok(web::Json(LoggedIn { user: AuthUser::new(&account), tokens })),
        Err(error) if error.code() == Code::MfaRequired && code.is_some() => Err(attempt.failed(error).await),
        Err(error) => Err(error),
    }
}

async fn check_factor(conn: &mut AsyncPgConnection, user_id: Uuid, code: Option<&str>) -> Result<(), ApiError> {
    let wrong = match code {
        Some(code) if mfa::take(conn, user_id, code).await? => return Ok(()),
        Some(_) => "The code is wrong, or was used before; wait for the next one",
        None => "Send the code of your second factor as mfa_code",
    };
    Err(ApiError::new(Code::MfaRequired, wrong))
}

/// A refresh token.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Refresh {
    #[garde(length(bytes, min = 1, max = 1024))]
    refresh_token: String,
}

/// Exchange a refresh token for new tokens; it is spent then.
#[utoipa::path(
    tag = "auth",
    request_body = Refresh,
    responses((status = 200, body = TokenSet), (status = 401, description = "Unknown, expired or spent; spending one twice ends the login session"))
)]
#[post("/auth/refresh")]
pub(crate) async fn refresh(state: web::Data<State>, body: Valid<Refresh>) -> Result<web::Json<TokenSet>, ApiError> {
    let hash = tokens::hash(&body.0.refresh_token);
    let mut conn = state.conn().await?;
    let renewed = once(&mut conn, async |conn| match LoginSession::redeem(conn, &hash).await? {
        Redeemed::Good { session_id, user_id } => {
            let account = Account::get(conn, user_id).await?;
            Ok(Some(issue(&state, conn, &account, session_id).await?))
        }
        Redeemed::Reused { session_id } => {
            tracing::warn!(%session_id, "a spent refresh token was used again; its login session was ended");
            Ok(None)
        }
        Redeemed::Bad => Ok(None),
    })
    .await?;
    renewed.map(web::Json).ok_or_else(|| {
        ApiError::new(Code::AuthenticationRequired, "The refresh token is unknown, expired or spent; log in again")
    })
}

/// Log out: the login session ends, and with it all its tokens.
#[utoipa::path(tag = "auth", responses((status = 200, body = Message)), security(("bearer" = [])))]
#[post("/auth/logout")]
pub(crate) async fn logout(state: web::Data<State>, caller: Caller) -> Result<web::Json<Message>, ApiError> {
    let session = caller.session()?;
    let mut conn = state.conn().await?;
    once(&mut conn, async |conn| Ok(LoginSession::end(conn, session).await?)).await?;
    Ok(web::Json(Message::new("Successfully logged out")))
}

/// An old and a new password.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(context(PasswordPolicy))]
pub(crate) struct UpdatePassword {
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    old_password: String,
    /// At least one letter and one other character; not the email, not the old one.
    #[garde(custom(acceptable("")), custom(differs_from(&self.old_password)))]
    #[schema(format = Password, min_length = 8, max_length = 128)]
    new_password: String,
}

fn differs_from(old: &str) -> impl FnOnce(&str, &PasswordPolicy) -> garde::Result {
    move |new, _| if new == old { Err(garde::Error::new("must differ from the old one")) } else { Ok(()) }
}

/// Change the password; all other login sessions end.
#[utoipa::path(
    tag = "auth",
    request_body = UpdatePassword,
    responses((status = 200, body = Message), (status = 401, description = "Wrong old password")),
    security(("bearer" = []))
)]
#[put("/auth/password")]
pub(crate) async fn update_password(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<UpdatePassword>,
) -> Result<web::Json<Message>, ApiError> {
    let (Valid(change), session) = (body, caller.session()?);
    let user = User::get(&mut *state.conn().await?, caller.user_id).await?;
    if change.new_password.to_lowercase() == user.email {
        return Err(ApiError::invalid_field("new_password", "must not be the email address"));
    }
    let attempt = Try::begin(&state, &user.email).await?;
    if !state.passwords.verify(&change.old_password, Some(&user.password_hash)).await? {
        return Err(attempt.failed(ApiError::new(Code::InvalidCredentials, "The old password is wrong")).await);
    }
    drop(attempt);
    let hash = state.passwords.hash(&change.new_password).await?;
    let mut conn = state.conn().await?;
    conn.transaction::<_, ApiError, _>(async |conn| {
        User::set_password(conn, caller.user_id, &hash).await?;
        LoginSession::end_others(conn, caller.user_id, session).await?;
        PasswordReset::end_all(conn, caller.user_id).await?;
        let (organization_id, user_id) = (caller.organization_id, caller.user_id);
        let audit = origin.entry(organization_id, user_id, "user.password_changed", ("user", user_id), json!({}));
        Ok(AuditEntry::insert(conn, audit).await?)
    })
    .await?;
    Ok(web::Json(Message::new("Password changed successfully")))
}

/// Opens a login session and gives it its first tokens.
async fn open_session(
    state: &State,
    conn: &mut AsyncPgConnection,
    account: &Account,
    request: &HttpRequest,
) -> Result<TokenSet, ApiError> {
    let ip = client_ip(request).map(|address| address.to_string());
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent: Option<String> = agent.map(|agent| agent.chars().take(AGENT_CHARS).collect());
    conn.transaction(async |conn| {
        let session = LoginSession::insert(conn, account.user.id, ip.as_deref(), agent.as_deref()).await?;
        User::touch_login(conn, account.user.id).await?;
        issue(state, conn, account, session).await
    })
    .await
}

/// New tokens for an open session.
async fn issue(
    state: &State,
    conn: &mut AsyncPgConnection,
    account: &Account,
    session: Uuid,
) -> Result<TokenSet, ApiError> {
    let renewal = state.keys.refresh();
    LoginSession::insert_refresh_token(conn, session, &renewal.hash, renewal.expires_at).await?;
    let access = state.keys.access(account.user.id, session, account.user.organization_id, account.role);
    Ok(TokenSet::new(access.map_err(ApiError::internal)?, renewal.text, state.keys.expires_in()))
}
