//! Limits on requests: buckets in Redis that all processes of the API share. `limits.toml` has the figures, `rules` says
//! which kind a route is of.
//!
//! The layer looks at what needs no caller: routes that are open to anyone, paths that do not exist, and, once admission has
//! found nobody behind a request, at how often that address has tried. A caller that was found is held to the limits by
//! [`check`]; most buckets are asked by [`ask_early`], while the session is looked up. The headers are written at the edge, so that every answer has them, whoever made it.

mod breaker;
mod bucket;
mod buckets;
mod headers;
mod limiter;

pub(crate) use headers::NAMES as HEADERS;
pub(crate) use limiter::Limiter;

use crate::{
    alias::PREFIX,
    auth::{Caller, admission, caller::Proven},
    error::{ApiError, Code},
    origin::client_ip,
    rules::{Category, Rule, Who},
    state::State,
};
use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web,
};
use bucket::{Bucket, Level};
use buckets::Subject;
use headers::{Standing, seconds};
use limiter::Verdict;
use std::time::SystemTime;

/// The layer itself, around admission.
pub(crate) async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let rule = admission::rule(&request);
    if let Some(category) = open_to_anyone(&request, rule)
        && let Err(refusal) = check_address(&state, &request, category).await
    {
        return Ok(request.error_response(refusal));
    }
    let response = next.call(request).await?.map_into_boxed_body();
    let nobody = response.status() == StatusCode::UNAUTHORIZED
        && rule.is_some_and(|rule| rule.who != Who::Anyone)
        && !response.request().extensions().contains::<Standing>();
    if nobody && let Err(refusal) = check_anonymous(&state, &response).await {
        return Ok(response.error_response(refusal));
    }
    Ok(response)
}

/// The kind of a request that no caller is looked for: a route for anyone, or no route at all. What stands outside of the
/// API, operations and their pages, is not limited, and sockets are limited by their messages.
fn open_to_anyone(request: &ServiceRequest, rule: Option<&Rule>) -> Option<Category> {
    match rule {
        Some(rule) if rule.who == Who::Anyone => Some(rule.category),
        Some(_) => None,
        None if request.path().starts_with(PREFIX) || request.match_pattern().is_none() => Some(Category::General),
        None => None,
    }
}

async fn check_address(state: &State, request: &ServiceRequest, category: Category) -> Result<(), ApiError> {
    let ip = client_ip(request.request());
    let bucket = buckets::of_address(&state.config.limits, category, ip);
    let verdict = state.limiter.take(bucket.as_slice()).await;
    let (standing, outcome) = judge(category.as_str(), Subject::Ip(ip), verdict);
    request.extensions_mut().insert(standing);
    outcome
}

async fn check_anonymous(state: &State, response: &ServiceResponse<BoxBody>) -> Result<(), ApiError> {
    let ip = client_ip(response.request());
    let bucket = buckets::of_anonymous(&state.config.limits, ip);
    let verdict = state.limiter.take(&[bucket]).await;
    let (standing, outcome) = judge("anonymous", Subject::Ip(ip), verdict);
    response.request().extensions_mut().insert(standing);
    outcome
}

/// What a bucket said to a request before its caller was known for certain.
pub(crate) struct Early {
    bucket: Bucket,
    verdict: Verdict,
}

/// Asks the bucket of a request whose token is ours, while its session is looked up: that spares a round trip. `None` if
/// the limits depend on what the look-up says; then [`check`] asks them.
pub(crate) async fn ask_early(state: &State, request: &ServiceRequest, rule: &Rule, proven: &Proven) -> Option<Early> {
    let Proven::Token(claims) = proven else { return None };
    let bucket = buckets::of_token(&state.config.limits, rule, claims.sub, client_ip(request.request()))?;
    let verdict = state.limiter.take(std::slice::from_ref(&bucket)).await;
    Some(Early { bucket, verdict })
}

/// The token was ours, and its session has ended: whoever shows it takes nothing from its user.
pub(crate) async fn give_back(state: &State, early: Early) {
    if early.verdict.passed {
        state.limiter.give_back(&[early.bucket]).await;
    }
}

/// Holds a caller to the limits, before the handler runs.
///
/// # Errors
/// 429 if any bucket that the request has to pass is empty; then none has lost anything.
pub(crate) async fn check(
    state: &State,
    request: &ServiceRequest,
    rule: &Rule,
    caller: &Caller,
    early: Option<Early>,
) -> Result<(), ApiError> {
    let verdict = match early {
        Some(early) => early.verdict,
        None => {
            let ip = client_ip(request.request());
            state.limiter.take(&buckets::of_caller(&state.config.limits, rule, caller, ip)).await
        }
    };
    let (standing, outcome) = judge(rule.category.as_str(), Subject::of(caller), verdict);
    request.extensions_mut().insert(standing);
    outcome
}

/// Holds a question over a socket to the limits of one by `POST /ai/chat`.
///
/// # Errors
/// 429.
pub(crate) async fn check_question(state: &State, caller: &Caller) -> Result<(), ApiError> {
    let buckets = buckets::of_question(&state.config.limits, caller);
    judge(Category::Ai.as_str(), Subject::of(caller), state.limiter.take(&buckets).await).1
}

/// Whether a password of this account may be looked at: not after too many wrong ones.
///
/// # Errors
/// 429.
pub(crate) async fn check_account(state: &State, email_hash: &str) -> Result<(), ApiError> {
    let bucket = buckets::of_account(&state.config.limits, email_hash);
    judge(Category::Auth.as_str(), Subject::Ip(None), state.limiter.look(&[bucket]).await).1
}

/// Notes a wrong password of this account, whether it exists or not.
pub(crate) async fn charge_account(state: &State, email_hash: &str) {
    let bucket = buckets::of_account(&state.config.limits, email_hash);
    state.limiter.take(&[bucket]).await;
}

/// Writes the headers of an answer of the API. One that no limit was asked about, because it was made before, describes a
/// full bucket.
pub(crate) fn add_headers(response: &mut ServiceResponse<BoxBody>, state: &State) {
    let asked = response.request().extensions().get::<Standing>().cloned();
    let unasked = || Standing {
        category: Category::General.as_str(),
        identifier: Subject::Ip(None).identifier(),
        levels: buckets::of_address(&state.config.limits, Category::General, None).iter().map(Bucket::full).collect(),
    };
    let in_api = response.request().path().starts_with(PREFIX);
    if let Some(standing) = asked.or_else(|| in_api.then(unasked)) {
        standing.write(response.response_mut().headers_mut(), SystemTime::now());
    }
}

fn judge(category: &'static str, subject: Subject, verdict: Verdict) -> (Standing, Result<(), ApiError>) {
    let Verdict { passed, levels } = verdict;
    let outcome = match levels.iter().max_by_key(|level| level.retry()) {
        Some(empty) if !passed => Err(refusal(empty)),
        _ => Ok(()),
    };
    (Standing { category, identifier: subject.identifier(), levels }, outcome)
}

/// Says which limit it was, and when it is worth trying again.
fn refusal(empty: &Level) -> ApiError {
    let Level { name, rate, .. } = empty;
    let retry_after = seconds(empty.retry()).max(1);
    let requests = match *name {
        "anonymous" => "Requests without valid credentials from one address",
        "account" => "Wrong passwords of one account",
        "user" => "Requests of one user that are work",
        "organization" => "Requests of one organization that are work",
        _ => "Requests of this kind",
    };
    let (limit, window) = (rate.limit, rate.window.as_secs());
    ApiError::new(
        Code::RateLimited,
        format!(
            "{requests} are limited to {limit} in {window} seconds (limit {name:?}); try again in {retry_after} seconds"
        ),
    )
    .with_retry_after(retry_after)
}
