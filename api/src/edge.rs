//! The outermost layer: what every request gets on its way in, and every answer on its way out.
//!
//! In: a request id, the canonical path and method. Out: errors in their one form, the headers that every answer has,
//! one log line and the metrics. Inside it come CORS and the routes.

use crate::{
    alias::{PREFIX, canonical_method, canonical_uri},
    auth::{CallerId, CountsFor},
    error::{ApiError, Code},
    limits, security,
    state::State,
};
use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{self, BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use std::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

/// Carries the request id in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");

/// The id of a request: in its log lines, in its error, in its answer.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Left in a request whose answer is sent without its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyUnwanted;

/// The layer itself.
pub(crate) async fn edge(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    if let Some(uri) = canonical_uri(request.uri()) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    request.head_mut().method = canonical_method(&method);
    if method == Method::HEAD {
        request.extensions_mut().insert(BodyUnwanted);
    }
    let in_api = request.path().starts_with(PREFIX);

    let state = request.app_data::<web::Data<State>>().cloned();
    // a request counts as in work until its answer is ready; stopping waits for it
    let _in_work = state.as_ref().map(|state| state.requests.token());
    let refused = state.as_ref().is_some_and(|state| state.is_draining()) && !always_answered(request.path());
    // no copy of the request may be kept: the router has to be its only holder
    let mut response = if refused {
        let refusal = ApiError::unavailable("The server is stopping; try again", 1);
        ServiceResponse::new(request.into_parts().0, HttpResponse::from_error(refusal))
    } else {
        // neither CORS nor the router answers with an `Err`: theirs are responses that hold one
        next.call(request).instrument(tracing::info_span!("request", id)).await?.map_into_boxed_body()
    };
    if let Some(mut rendered) = response.response().error().map(|error| render(error, &id)) {
        // what the layers inside have added, CORS above all, stays
        for (name, value) in response.headers() {
            if *name != CONTENT_TYPE && *name != CONTENT_LENGTH {
                rendered.headers_mut().append(name.clone(), value.clone());
            }
        }
        response = response.into_response(rendered);
    }

    if method == Method::HEAD && response.response().body().size() == BodySize::Stream {
        // nobody sends it, and yet the connection would be kept until it ends: an event stream may last for hours
        response = response.map_body(|_, _| BoxBody::new(body::None::new()));
    }
    let headers = response.response_mut().headers_mut();
    // an answer that is given again may name the request that it answered
    if !headers.contains_key(X_REQUEST_ID)
        && let Ok(value) = HeaderValue::from_str(&id)
    {
        headers.insert(X_REQUEST_ID, value);
    }
    if in_api {
        headers.insert(X_API_VERSION, HeaderValue::from_static("v1"));
    }
    if refused {
        // another replica takes the next request of this client
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    if let Some(state) = &state {
        limits::add_headers(&mut response, state);
    }
    security::add_headers(&mut response, state.as_ref().map(|state| state.get_ref()));
    report(&response, state.as_ref().map(|state| state.get_ref()), &id, &method, began);
    Ok(response)
}

/// What is answered while the process stops, too.
fn always_answered(path: &str) -> bool {
    ["/health", "/ready", "/metrics"].contains(&path)
}

/// The request's own id if it is harmless, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    let sent = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane);
    sent.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned)
}

/// An error in its one form, whoever raised it; its cause goes into the log.
pub(crate) fn render(error: &Error, request_id: &str) -> HttpResponse {
    if let Some(error) = error.as_error::<ApiError>() {
        match error.cause() {
            Some(cause) if error.code().status().is_server_error() => {
                tracing::error!(request_id, code = error.code().as_str(), "{cause:#}");
            }
            Some(cause) => tracing::debug!(request_id, code = error.code().as_str(), "{cause:#}"),
            None => {}
        }
        return error.render(request_id);
    }
    // raised by the framework: its text speaks of the request, never of our inside
    let status = error.as_response_error().status_code();
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        _ if status.is_client_error() => Code::Validation,
        _ => Code::Internal,
    };
    if code == Code::Internal {
        tracing::error!(request_id, "{error}");
        return ApiError::internal(anyhow::anyhow!("{error}")).render(request_id);
    }
    ApiError::new(code, error.to_string()).render(request_id)
}

/// One log line, the metrics of a request, and the figures of the organization that it was for. The path is not logged: it
/// may hold a token in its query.
fn report(response: &ServiceResponse<BoxBody>, state: Option<&State>, id: &str, method: &Method, began: Instant) {
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_u16();
    let took = began.elapsed();
    let user = response.request().extensions().get::<CallerId>().map(|caller| caller.0);
    let counts_for = response.request().extensions().get::<CountsFor>().copied();
    if let (Some(CountsFor(organization)), Some(state)) = (counts_for, state) {
        state.answered.count(organization, response.status(), took);
    }
    tracing::info!(
        target: "api::audit",
        request_id = id,
        user = user.map(tracing::field::display),
        method = method.as_str(),
        route,
        status,
        ms = took.as_millis(),
    );
    // an unknown method would make a new series for each
    let method = if method_is_known(method) { method.as_str().to_owned() } else { "other".to_owned() };
    let labels = [("method", method), ("route", route), ("status", status.to_string())];
    metrics::counter!("atelier_http_requests_total", &labels).increment(1);
    metrics::histogram!("atelier_http_request_duration_seconds", &labels).record(took);
}

fn method_is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .contains(method)
}
