//! The caller of a request: an extractor, so that a handler which names it cannot be reached without credentials.

use crate::{alias::PREFIX, error::ApiError, state::State};
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::AUTHORIZATION,
    middleware::Next,
    web,
};
use futures_util::future::{Ready, ready};
use shared::models::{LoginSession, Role, Tier};
use std::ops::Deref;
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
    /// The login session that the token belongs to.
    pub(crate) session_id: Uuid,
}

/// A caller who may create and change things: anyone but a viewer.
#[derive(Debug, Clone)]
pub(crate) struct Writer(pub Caller);

/// What became of the credentials of a request, until its handler asks.
struct Identified(Result<Caller, ApiError>);

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
            session_id: claims.sid,
        })
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

impl Deref for Writer {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A layer that looks up who calls before any extractor runs.
///
/// The extractors of a handler run side by side and the first error is the answer. Were the look-up one of them, who is
/// not let in would hear what is wrong with the body instead, because that is found out sooner.
pub(crate) async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.path().starts_with(PREFIX)
        && let Some(state) = request.app_data::<web::Data<State>>()
        && let Some(token) = bearer(request.request())
    {
        let identified = Caller::from_token(state, token).await;
        if let Ok(caller) = &identified {
            request.extensions_mut().insert(CallerId(caller.user_id));
        }
        request.extensions_mut().insert(Identified(identified));
    }
    next.call(request).await
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let identified = request.extensions_mut().remove::<Identified>();
        ready(identified.map_or_else(|| Err(ApiError::unauthenticated()), |Identified(result)| result))
    }
}

impl FromRequest for Writer {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload).into_inner();
        ready(caller.and_then(|caller| caller.require_writer().map(|()| Self(caller))))
    }
}
