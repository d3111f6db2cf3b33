//! The caller of a request: an extractor, so that a handler which names it cannot be reached without credentials.

use crate::{error::ApiError, state::State};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header::AUTHORIZATION};
use futures_util::future::{Ready, ready};
use serde_json::Value;
use shared::models::{LoginSession, Role, Tier};
use uuid::Uuid;

/// Who calls, as the database has it now: a changed role or an ended session counts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) user_id: Uuid,
    /// The user's current organization.
    pub(crate) organization_id: Uuid,
    /// The user's role in it.
    pub(crate) role: Role,
    /// The organization's tier.
    pub(crate) tier: Tier,
    /// What the operator put in place of the tier's figures, see
    /// [`Limits::for_organization`](shared::limits::Limits::for_organization).
    pub(crate) custom_limits: Option<Value>,
    /// What the caller showed.
    pub(crate) credential: Credential,
}

/// What a caller showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// An access token of this login session.
    Session(Uuid),
    /// An API key.
    Key {
        /// Its id.
        id: Uuid,
        /// What it may.
        permissions: Vec<String>,
    },
}

/// Left in a request for the log line at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallerId(pub(crate) Uuid);

impl Caller {
    /// The caller behind an access token: one query.
    ///
    /// # Errors
    /// 401 unless the token is ours and unexpired, its session open and its user active.
    pub(crate) async fn from_token(state: &State, token: &str) -> Result<Self, ApiError> {
        let claims = state.keys.read(token).ok_or_else(ApiError::unauthenticated)?;
        let holder = LoginSession::find_holder(&mut *state.conn().await?, claims.sid, claims.sub).await?;
        let holder = holder.ok_or_else(ApiError::unauthenticated)?;
        Ok(Self {
            user_id: holder.user_id,
            organization_id: holder.organization_id,
            role: holder.role,
            tier: holder.tier,
            custom_limits: holder.custom_limits,
            credential: Credential::Session(claims.sid),
        })
    }

    /// The login session of the caller.
    ///
    /// # Errors
    /// 403 for a key: it belongs to none.
    pub(crate) fn session(&self) -> Result<Uuid, ApiError> {
        match self.credential {
            Credential::Session(id) => Ok(id),
            Credential::Key { .. } => Err(ApiError::forbidden("An API key cannot do this; log in")),
        }
    }

    /// The caller's share of turns in the queue.
    pub(crate) const fn weight(&self) -> u16 {
        self.tier.weight()
    }

    /// Whether the caller may decide about a thing of this user: an own one, or anybody's for managers and admins.
    pub(crate) fn may_decide_about(&self, owner: Uuid) -> bool {
        match self.role {
            Role::Admin | Role::Manager => true,
            Role::Member => owner == self.user_id,
            Role::Viewer => false,
        }
    }

    /// Refuses viewers.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn require_writer(&self) -> Result<(), ApiError> {
        match self.role {
            Role::Admin | Role::Manager | Role::Member => Ok(()),
            Role::Viewer => Err(ApiError::forbidden("A viewer may only read; ask an admin for another role")),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // left there by the layer that lets requests in
        let admitted = request.extensions().get::<Self>().cloned();
        ready(admitted.ok_or_else(ApiError::unauthenticated))
    }
}
