//! The own account. It has three addresses; all read and change the same.

use crate::{
    auth::{
        Caller,
        registration::{email_taken, username_taken},
    },
    error::{ApiError, violated},
    extract::{Valid, not_blank, object},
    state::State,
    views::{UserView, username_rule},
};
use actix_web::{get, put, web};
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::Deserialize;
use serde_json::{Map, json};
use shared::models::{Account, Activity, ApiKey, Quota, User, UserChange};
use utoipa::ToSchema;

/// What is to change in the own account; what is not sent stays.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdateUser {
    #[garde(email, length(bytes, max = 254))]
    #[schema(format = Email, max_length = 254)]
    email: Option<String>,
    #[garde(inner(custom(username_rule)))]
    #[schema(pattern = "^[A-Za-z0-9_]{3,30}$")]
    username: Option<String>,
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Another name of `name`.
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)), custom(same_name(&self.name)))]
    #[schema(min_length = 1, max_length = 100)]
    full_name: Option<String>,
    #[garde(dive)]
    #[serde(default, deserialize_with = "object")]
    preferences: Option<UpdatePreferences>,
}

/// Preferences to change, merged key by key.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdatePreferences {
    /// `light`, `dark` or `system`.
    #[garde(inner(custom(theme_rule)))]
    #[schema(pattern = "^(light|dark|system)$")]
    theme: Option<String>,
    #[garde(dive)]
    #[serde(default, deserialize_with = "object")]
    notifications: Option<UpdateNotifications>,
    #[garde(length(chars, min = 1, max = 100))]
    #[schema(min_length = 1, max_length = 100)]
    default_model: Option<String>,
}

/// Notifications to switch.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdateNotifications {
    #[garde(skip)]
    email: Option<bool>,
    #[garde(skip)]
    browser: Option<bool>,
}

fn same_name(name: &Option<String>) -> impl FnOnce(&Option<String>, &()) -> garde::Result {
    move |full_name, ()| match (name, full_name) {
        (Some(name), Some(full_name)) if name != full_name => {
            Err(garde::Error::new("differs from name; send one of them"))
        }
        (_, _) => Ok(()),
    }
}

fn theme_rule(theme: &str, (): &()) -> garde::Result {
    match theme {
        "light" | "dark" | "system" => Ok(()),
        _ => Err(garde::Error::new("must be light, dark or system")),
    }
}

/// The own account.
#[utoipa::path(tag = "users", responses((status = 200, body = UserView)), security(("bearer" = [])))]
#[get("/auth/me")]
pub(crate) async fn get_auth_me(state: web::Data<State>, caller: Caller) -> Result<web::Json<UserView>, ApiError> {
    read(&state, &caller).await
}

/// The own account.
#[utoipa::path(tag = "users", responses((status = 200, body = UserView)), security(("bearer" = [])))]
#[get("/users/me")]
pub(crate) async fn get_user_me(state: web::Data<State>, caller: Caller) -> Result<web::Json<UserView>, ApiError> {
    read(&state, &caller).await
}

/// The own account.
#[utoipa::path(tag = "users", responses((status = 200, body = UserView)), security(("bearer" = [])))]
#[get("/users/profile")]
pub(crate) async fn get_user_profile(state: web::Data<State>, caller: Caller) -> Result<web::Json<UserView>, ApiError> {
    read(&state, &caller).await
}

/// Change the own account.
#[utoipa::path(
    tag = "users",
    request_body = UpdateUser,
    responses((status = 200, body = UserView), (status = 409, description = "Email or username is taken")),
    security(("bearer" = []))
)]
#[put("/auth/profile")]
pub(crate) async fn update_auth_profile(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<UpdateUser>,
) -> Result<web::Json<UserView>, ApiError> {
    update(&state, &caller, body.0).await
}

/// Change the own account.
#[utoipa::path(
    tag = "users",
    request_body = UpdateUser,
    responses((status = 200, body = UserView), (status = 409, description = "Email or username is taken")),
    security(("bearer" = []))
)]
#[put("/users/me")]
pub(crate) async fn update_user_me(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<UpdateUser>,
) -> Result<web::Json<UserView>, ApiError> {
    update(&state, &caller, body.0).await
}

/// Change the own account.
#[utoipa::path(
    tag = "users",
    request_body = UpdateUser,
    responses((status = 200, body = UserView), (status = 409, description = "Email or username is taken")),
    security(("bearer" = []))
)]
#[put("/users/profile")]
pub(crate) async fn update_user_profile(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<UpdateUser>,
) -> Result<web::Json<UserView>, ApiError> {
    update(&state, &caller, body.0).await
}

async fn read(state: &State, caller: &Caller) -> Result<web::Json<UserView>, ApiError> {
    let mut conn = state.conn().await?;
    // a key sees its owner as what it acts as: in its own organization
    let user = User { organization_id: caller.organization_id, ..User::get(&mut conn, caller.user_id).await? };
    show(state, &mut conn, caller, Account { user, role: caller.role, tier: caller.tier }).await
}

async fn update(state: &State, caller: &Caller, change: UpdateUser) -> Result<web::Json<UserView>, ApiError> {
    let mut conn = state.conn().await?;
    let user = write(&mut conn, caller, &change).await?;
    show(state, &mut conn, caller, Account { user, role: caller.role, tier: caller.tier }).await
}

async fn show(
    state: &State,
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    account: Account,
) -> Result<web::Json<UserView>, ApiError> {
    let activity = Activity::of_user(conn, caller.user_id).await?;
    let quota = Quota::get(conn, &state.config.limits, caller.user_id, caller.organization_id).await?;
    let keys = ApiKey::list(conn, caller.user_id).await?;
    Ok(web::Json(UserView::new(&account, activity, quota.into(), keys)))
}

async fn write(conn: &mut AsyncPgConnection, caller: &Caller, change: &UpdateUser) -> Result<User, ApiError> {
    let email = change.email.as_ref().map(|email| email.to_lowercase());
    let preferences = change.preferences.as_ref();
    let mut changed = Map::new();
    if let Some(theme) = preferences.and_then(|preferences| preferences.theme.as_ref()) {
        changed.insert("theme".to_owned(), json!(theme));
    }
    if let Some(model) = preferences.and_then(|preferences| preferences.default_model.as_ref()) {
        changed.insert("default_model".to_owned(), json!(model));
    }
    let notifications = preferences.and_then(|preferences| preferences.notifications.as_ref()).map(|switches| {
        let switches = [("email", switches.email), ("browser", switches.browser)];
        switches.into_iter().filter_map(|(key, on)| Some((key.to_owned(), json!(on?)))).collect::<Map<_, _>>()
    });
    let change = UserChange {
        email: email.as_deref(),
        username: change.username.as_deref(),
        full_name: change.name.as_deref().or(change.full_name.as_deref()),
        preferences: Some(changed.into()),
        notifications: notifications.map(Into::into),
    };
    User::update(conn, caller.user_id, &change).await.map_err(|error| match violated(&error) {
        Some("users_email_key") => email_taken(),
        Some("users_username_key") => username_taken(),
        _ => error.into(),
    })
}
