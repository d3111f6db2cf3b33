//! What the API's description says of the whole: title, credentials, and the errors that any endpoint may answer with.

use crate::{
    alias::PREFIX,
    auth::caller::X_API_KEY,
    error::{Code, Detail, ErrorBody, ErrorObject},
    idempotency::LONGEST_KEY,
    rules::{self, Keys, Rule},
};
use actix_web::http::{Method, StatusCode};
use utoipa::{
    OpenApi as _,
    openapi::{
        Content, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// The name of the security scheme that handlers name: `security(("bearer" = []))`.
const BEARER: &str = "bearer";

/// The name of the other one; where keys open an endpoint follows from its rule.
const API_KEY: &str = "api_key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Atelier",
        description = "Asynchronous image and AI work: submit it, watch it, or be called back. Every path also works \
                       below `/api`, `/v1` and, for `/auth`, without any prefix; PATCH works wherever PUT does.",
    ),
    tags(
        (name = "auth", description = "Register, log in, tokens"),
        (name = "users", description = "The own account"),
        (name = "api-keys", description = "Keys for scripts, in the header `X-API-Key`"),
        (name = "organizations", description = "Tenants, their members, and what changed access"),
        (name = "pipelines", description = "Graphs of nodes, and running them"),
        (name = "executions", description = "Runs of pipelines: watching, stopping, repeating"),
        (name = "orchestration", description = "The phases of a project, one after the other"),
        (name = "projects", description = "What an organization works on; orchestrations belong to one"),
        (name = "templates", description = "What orchestrations are made from"),
        (name = "ai", description = "Language models, and what they cost"),
        (name = "chat", description = "A conversation that is remembered"),
        (name = "products", description = "Products and their images"),
        (name = "uploads", description = "Sending image bytes"),
        (name = "analysis", description = "What the models found"),
        (name = "jobs", description = "Queued work"),
        (name = "files", description = "Files of any kind"),
        (name = "analytics", description = "What an organization uses, and how it is served"),
        (name = "dashboard", description = "Figures at a glance"),
        (name = "operations", description = "For whoever runs it; without credentials"),
    ),
    components(schemas(ErrorBody, ErrorObject, Detail, Code)),
)]
struct Description;

/// The description without any path.
pub(crate) fn document() -> OpenApi {
    let mut document = Description::openapi();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    let about = "A key made with `POST /api-keys`. What an endpoint asks of it is listed beside the scheme's name.";
    let key = ApiKeyValue::with_description(X_API_KEY.as_str(), about);
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(key)));
    document
}

/// Adds to every endpoint what need not be said at each: PATCH beside PUT, and the errors that all have in common.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        if item.patch.is_none() {
            item.patch = item.put.clone().map(|mut operation| {
                operation.operation_id = operation.operation_id.map(|id| format!("{id}_by_patch"));
                operation
            });
        }
        for (method, operation) in operations(item) {
            if let Some(rule) = rules::find(&method, path) {
                add_keys(operation, rule);
            }
            if path.starts_with(PREFIX) {
                add_errors(operation);
            }
            if method == Method::POST {
                add_idempotency(operation);
            }
            describe_responses(operation);
        }
    }
    document
}

/// The operations of a path, each with its canonical method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PUT, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says that a key opens an endpoint, and which permission it needs.
fn add_keys(operation: &mut Operation, rule: &Rule) {
    let needed = match rule.keys {
        Keys::Refused => return,
        Keys::Any => None,
        Keys::With(permission) => Some(permission.as_str()),
    };
    if let Some(ways) = &mut operation.security {
        ways.push(SecurityRequirement::new(API_KEY, needed));
    }
}

fn add_errors(operation: &mut Operation) {
    let needs_credentials = operation.security.is_some();
    for (status, meaning) in [
        (400, "Malformed or invalid; `details` names every field"),
        (401, "No valid credentials"),
        (403, "The role or the key does not allow it"),
        (429, "Too much of something at once"),
        (500, "Our fault"),
        (503, "Not now; try again"),
    ] {
        if !needs_credentials && (status == 401 || status == 403) {
            continue;
        }
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(error(meaning)));
    }
    // an error that a handler names needs no body there: all have the same
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            *response = error(&response.description);
        }
    }
}

/// Whoever is known may repeat any POST without doing its work twice. What is answered to others holds tokens, and is not
/// kept.
fn add_idempotency(operation: &mut Operation) {
    if operation.security.is_none() {
        return;
    }
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(LONGEST_KEY));
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Any visible ASCII characters. For 24 hours the same key, path and body get the first answer again, with \
             `Idempotent-Replayed: true`; 409 while it is being answered, 422 with another body. After 429 and 5xx the \
             key is free again.",
        ))
        .schema(Some(text));
    operation.parameters.get_or_insert_default().push(RefOr::T(key.build()));
    for (status, meaning) in [
        (409, "A request with this `Idempotency-Key` is being answered"),
        (422, "The `Idempotency-Key` was used with another body"),
    ] {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(error(meaning)));
    }
}

/// Every response has to say something; where a handler has nothing to add, the status speaks.
fn describe_responses(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let reason = StatusCode::from_bytes(status.as_bytes()).ok().and_then(|status| status.canonical_reason());
            response.description = reason.unwrap_or("Done").to_owned();
        }
    }
}

fn error(meaning: &str) -> Response {
    let body = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Error"))));
    ResponseBuilder::new().description(meaning).content("application/json", body).build()
}
