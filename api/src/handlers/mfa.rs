//! The second factor of a login: setting it up, switching it on and off.

use crate::{
    auth::{Caller, mfa, tries::Try},
    error::{ApiError, Code, Detail},
    extract::Valid,
    idempotency::once,
    origin::Origin,
    state::State,
};
use actix_web::{post, web};
use chrono::Utc;
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    letter::Letter,
    models::{AuditEntry, NewMail, RecoveryCode, User},
    queue::Hint,
};
use utoipa::ToSchema;

/// What an app needs to make codes.
#[derive(Serialize, ToSchema)]
pub(crate) struct SetUp {
    /// Base32, to be typed in.
    secret: String,
    /// The same as an address, to be shown as a QR code.
    otpauth_url: String,
}

/// A code that the app shows.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Confirm {
    #[garde(length(bytes, min = 1, max = 64))]
    #[schema(example = "123456")]
    code: String,
}

/// The second factor is on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Enabled {
    #[schema(example = true)]
    mfa_enabled: bool,
    /// Each stands in once for a code. They are shown this once.
    recovery_codes: Vec<String>,
}

/// A code or a recovery code, or the password.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Disable {
    #[garde(length(bytes, min = 1, max = 64))]
    code: Option<String>,
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    password: Option<String>,
}

/// The second factor is off.
#[derive(Serialize, ToSchema)]
pub(crate) struct Disabled {
    #[schema(example = false)]
    mfa_enabled: bool,
}

/// Set up a second factor
///
/// It is asked for once a code has confirmed it. Setting it up again before that replaces the secret.
#[utoipa::path(
    tag = "auth",
    security(("bearer" = [])),
    responses((status = 200, body = SetUp), (status = 409, description = "It is on; switch it off first")),
)]
#[post("/auth/mfa/setup")]
pub(crate) async fn set_up_mfa(state: web::Data<State>, caller: Caller) -> Result<web::Json<SetUp>, ApiError> {
    let mut conn = state.conn().await?;
    let set_up = once(&mut conn, async |conn| {
        let user = User::get(conn, caller.user_id).await?;
        let (secret, otpauth_url) = mfa::new_secret(&user.email).map_err(ApiError::internal)?;
        if !User::set_up_mfa(conn, caller.user_id, &secret).await? {
            return Err(is_on());
        }
        Ok(SetUp { secret, otpauth_url })
    })
    .await?;
    Ok(web::Json(set_up))
}

/// Switch the second factor on
///
/// From then on a login needs a code, too. The answer has ten recovery codes, for when the app is lost.
#[utoipa::path(
    tag = "auth",
    security(("bearer" = [])),
    request_body = Confirm,
    responses(
        (status = 200, body = Enabled),
        (status = 400, description = "The code is wrong"),
        (status = 409, description = "It is on, or was not set up"),
    ),
)]
#[post("/auth/mfa/enable")]
pub(crate) async fn enable_mfa(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<Confirm>,
) -> Result<web::Json<Enabled>, ApiError> {
    let Valid(Confirm { code }) = body;
    let mut conn = state.conn().await?;
    let (recovery_codes, hints) = once(&mut conn, async |conn| {
        let user = User::get(conn, caller.user_id).await?;
        if user.mfa_enabled {
            return Err(is_on());
        }
        let secret = User::mfa_secret(conn, user.id).await?;
        let secret = secret.ok_or_else(|| ApiError::conflict("Set the second factor up first"))?;
        let step = mfa::step_of(&code, &secret).map_err(ApiError::internal)?.ok_or_else(wrong_code)?;
        if !User::enable_mfa(conn, user.id, &secret, step).await? {
            return Err(ApiError::conflict("The second factor was changed at the same time; look again"));
        }
        let (codes, hashes) = mfa::new_recovery_codes(user.id);
        RecoveryCode::replace(conn, user.id, &hashes).await?;
        Ok((codes, tell(conn, &caller, &origin, user, true).await?))
    })
    .await?;
    drop(conn);
    state.hint(&hints).await;
    Ok(web::Json(Enabled { mfa_enabled: true, recovery_codes }))
}

/// Switch the second factor off
#[utoipa::path(
    tag = "auth",
    security(("bearer" = [])),
    request_body = Disable,
    responses(
        (status = 200, body = Disabled),
        (status = 400, description = "The code is wrong, or neither code nor password was sent"),
        (status = 401, description = "Wrong password"),
        (status = 409, description = "It is off"),
    ),
)]
#[post("/auth/mfa/disable")]
pub(crate) async fn disable_mfa(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<Disable>,
) -> Result<web::Json<Disabled>, ApiError> {
    let Valid(Disable { code, password }) = body;
    let user = User::get(&mut *state.conn().await?, caller.user_id).await?;
    let attempt = Try::begin(&state, &user.email).await?;
    let by_password = match &password {
        Some(password) => state.passwords.verify(password, Some(&user.password_hash)).await?,
        None => false,
    };
    if password.is_some() && !by_password {
        return Err(attempt.failed(ApiError::new(Code::InvalidCredentials, "The password is wrong")).await);
    }
    let mut conn = state.conn().await?;
    let switched_off = once(&mut conn, async |conn| {
        if !user.mfa_enabled {
            return Err(is_off());
        }
        match &code {
            _ if by_password => {}
            Some(code) if mfa::take(conn, user.id, code).await? => {}
            Some(_) => return Err(wrong_code()),
            None => {
                let needed = ["code", "password"].map(|field| Detail::new(field, "send a code, or the password"));
                return Err(ApiError::invalid(needed.into()));
            }
        }
        if !User::disable_mfa(conn, user.id).await? {
            return Err(is_off());
        }
        RecoveryCode::replace(conn, user.id, &[]).await?;
        tell(conn, &caller, &origin, user.clone(), false).await
    })
    .await;
    drop(conn);
    match switched_off {
        Ok(hints) => {
            state.hint(&hints).await;
            Ok(web::Json(Disabled { mfa_enabled: false }))
        }
        Err(error) if error.code() == Code::Validation && code.is_some() => Err(attempt.failed(error).await),
        Err(error) => Err(error),
    }
}

/// Tells the log of changes, and the user by mail.
async fn tell(
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    origin: &Origin,
    user: User,
    enabled: bool,
) -> Result<Vec<Hint>, ApiError> {
    let action = if enabled { "user.mfa_enabled" } else { "user.mfa_disabled" };
    let audit = origin.entry(caller.organization_id, user.id, action, ("user", user.id), json!({}));
    AuditEntry::insert(conn, audit).await?;
    let mail = NewMail {
        user_id: user.id,
        organization_id: caller.organization_id,
        to: user.email,
        letter: Letter::MfaChanged { name: user.full_name, enabled, at: Utc::now() },
    };
    Ok(NewMail::insert(conn, vec![mail]).await?)
}

fn is_on() -> ApiError {
    ApiError::conflict("The second factor is on; switch it off first")
}

fn is_off() -> ApiError {
    ApiError::conflict("The second factor is off")
}

fn wrong_code() -> ApiError {
    ApiError::invalid_field("code", "is wrong, or was used before; wait for the next one")
}
