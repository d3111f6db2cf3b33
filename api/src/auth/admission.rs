//! The layer that lets requests in: who calls, and whether the route is open to them.
//!
//! It runs before any extractor. The extractors of a handler run side by side and the first error is the answer: were the
//! look-up one of them, who is not let in would hear what is wrong with the body instead, because that is found out sooner.

use super::caller::{Caller, CallerId, CountsFor, Shown};
use crate::{
    alias::PREFIX,
    error::ApiError,
    limits,
    rules::{self, Rule, Who},
    state::State,
};
use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use futures_util::future::join;

/// The layer itself.
pub(crate) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // what has no rule is no route: it is answered with 404 or 405 whoever asks
    if let Some(rule) = rule(&request)
        && let Some(state) = request.app_data::<web::Data<State>>().cloned()
        && let Err(refusal) = let_in(&state, rule, &request).await
    {
        // a response, as routes give one: the layers outside read what it holds
        return Ok(request.error_response(refusal));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// Leaves the caller in the request, if the route is open to it.
async fn let_in(state: &State, rule: &Rule, request: &ServiceRequest) -> Result<(), ApiError> {
    if rule.who == Who::Anyone {
        // such a route looks at credentials itself, if it has any use for them
        if let Ok(caller) = Caller::identify(state, request.request()).await {
            leave(request, caller);
        }
        return Ok(());
    }
    let proven = Shown::of(request.request()).ok_or_else(ApiError::unauthenticated)?.prove(state)?;
    let (found, early) =
        join(Caller::from_proven(state, &proven), limits::ask_early(state, request, rule, &proven)).await;
    let caller = match found {
        Ok(caller) => caller,
        Err(refusal) => {
            if let Some(early) = early {
                limits::give_back(state, early).await;
            }
            return Err(refusal);
        }
    };
    // for the log line, also of one that is refused
    request.extensions_mut().insert(CallerId(caller.user_id));
    request.extensions_mut().insert(CountsFor(caller.organization_id));
    limits::check(state, request, rule, &caller, early).await?;
    check(rule, &caller)?;
    caller.count_use(state);
    leave(request, caller);
    Ok(())
}

fn leave(request: &ServiceRequest, caller: Caller) {
    let mut extensions = request.extensions_mut();
    extensions.insert(CallerId(caller.user_id));
    extensions.insert(caller);
}

/// The rule of the route that a request is for.
pub(crate) fn rule(request: &ServiceRequest) -> Option<&'static Rule> {
    if !request.path().starts_with(PREFIX) {
        return None;
    }
    rules::find(request.method(), &request.match_pattern()?)
}

fn check(rule: &Rule, caller: &Caller) -> Result<(), ApiError> {
    caller.require(rule.keys)?;
    if rule.who.includes(caller.role) {
        return Ok(());
    }
    Err(ApiError::forbidden(match rule.who {
        Who::Anyone | Who::Reader | Who::Writer => "A viewer may only read; ask an admin for another role",
        Who::Manager => "Only managers and admins may do this",
        Who::Admin => "Only admins may do this",
    }))
}
