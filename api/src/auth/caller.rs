//! The caller of a request: an extractor, so that a handler which names it cannot be reached without credentials.

use super::{api_keys, tokens::Claims};
use crate::{error::ApiError, rules::Keys, state::State};
use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{AUTHORIZATION, HeaderName},
};
use futures_util::future::{Ready, ready};
use serde_json::Value;
use shared::models::{Role, Tier};
use uuid::Uuid;

/// Carries an API key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

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

/// Left in a request whose answer counts among those to this organization.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountsFor(pub(crate) Uuid);

/// Credentials as they were sent; not checked yet.
#[derive(Clone)]
pub(crate) enum Shown {
    /// An access token.
    Token(String),
    /// An API key.
    Key(String),
}

/// Credentials that are well-formed, and signed by us; whether they still count, the database says.
pub(crate) enum Proven {
    /// What an unexpired access token of ours says.
    Token(Claims),
    /// The hash of a key.
    Key(Vec<u8>),
}

impl Shown {
    /// Looks at what can be told without the database.
    ///
    /// # Errors
    /// 401 if it is none of ours.
    pub(crate) fn prove(&self, state: &State) -> Result<Proven, ApiError> {
        let proven = match self {
            Self::Token(token) => state.keys.read(token).map(Proven::Token),
            Self::Key(key) => api_keys::hash(key).map(Proven::Key),
        };
        proven.ok_or_else(ApiError::unauthenticated)
    }

    /// An access token that came otherwise than in a header, with or without `Bearer `.
    pub(crate) fn token(text: &str) -> Self {
        Self::Token(text.trim_start_matches("Bearer ").to_owned())
    }

    /// What a request shows in its headers: an access token counts before a key.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let key = || request.headers().get(X_API_KEY)?.to_str().ok();
        let token = bearer(request).map(|token| Self::Token(token.to_owned()));
        token.or_else(|| key().map(|key| Self::Key(key.trim().to_owned())))
    }
}

impl Caller {
    /// The caller behind credentials.
    ///
    /// # Errors
    /// 401 unless they are good.
    pub(crate) async fn from_shown(state: &State, shown: &Shown) -> Result<Self, ApiError> {
        Self::from_proven(state, &shown.prove(state)?).await
    }

    /// The caller behind credentials that are ours.
    ///
    /// # Errors
    /// 401 if they do not count any more.
    pub(crate) async fn from_proven(state: &State, proven: &Proven) -> Result<Self, ApiError> {
        match proven {
            Proven::Token(claims) => Self::from_token(state, claims).await,
            Proven::Key(hash) => Self::from_key(state, hash.clone()).await,
        }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// 401 unless it shows good credentials.
    pub(crate) async fn identify(state: &State, request: &HttpRequest) -> Result<Self, ApiError> {
        Self::from_shown(state, &Shown::of(request).ok_or_else(ApiError::unauthenticated)?).await
    }

    /// The caller behind an access token: its session is open and its user active.
    async fn from_token(state: &State, claims: &Claims) -> Result<Self, ApiError> {
        let holder = state.identities.of_session(claims.sid).await?;
        let holder = holder.filter(|holder| holder.user_id == claims.sub).ok_or_else(ApiError::unauthenticated)?;
        if holder.stale {
            state.identities.uses.of_session(claims.sid);
        }
        Ok(Self {
            user_id: holder.user_id,
            organization_id: holder.organization_id,
            role: holder.role,
            tier: holder.tier,
            custom_limits: holder.custom_limits,
            credential: Credential::Session(claims.sid),
        })
    }

    /// The caller behind an API key: unexpired, its owner active and a member of the organization that it acts in.
    async fn from_key(state: &State, hash: Vec<u8>) -> Result<Self, ApiError> {
        let holder = state.identities.of_key(hash).await?.ok_or_else(ApiError::unauthenticated)?;
        Ok(Self {
            user_id: holder.user_id,
            organization_id: holder.organization_id,
            role: holder.role,
            tier: holder.tier,
            custom_limits: holder.custom_limits,
            credential: Credential::Key { id: holder.id, permissions: holder.permissions },
        })
    }

    /// Counts an accepted request of a key.
    pub(crate) fn count_use(&self, state: &State) {
        if let Credential::Key { id, .. } = self.credential {
            state.identities.uses.of_key(id);
        }
    }

    /// Refuses keys that lack what is needed; a login has everything.
    ///
    /// # Errors
    /// 403 that names the permission.
    pub(crate) fn require(&self, needed: Keys) -> Result<(), ApiError> {
        match (&self.credential, needed) {
            (Credential::Session(_), _) | (Credential::Key { .. }, Keys::Any) => Ok(()),
            (Credential::Key { .. }, Keys::Refused) => Err(ApiError::forbidden("An API key cannot do this; log in")),
            (Credential::Key { permissions, .. }, Keys::With(needed)) if needed.is_among(permissions) => Ok(()),
            (Credential::Key { .. }, Keys::With(needed)) => {
                Err(ApiError::forbidden(format!("This API key lacks the permission {}", needed.as_str())))
            }
        }
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
fn bearer(request: &HttpRequest) -> Option<&str> {
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
