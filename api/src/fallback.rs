//! What no route answers: OPTIONS on a path that exists, a method that it does not take, a path that does not exist.
//! Which paths exist is read from the API's own description, so there is no second list to keep.

use crate::error::ApiError;
use actix_web::{
    HttpRequest, HttpResponse,
    dev::ResourceDef,
    http::{Method, header::ALLOW},
    web,
};
use utoipa::openapi::{OpenApi, path::PathItem};

/// Which methods each path takes.
pub(crate) struct Allowed(Vec<(ResourceDef, String)>);

impl Allowed {
    /// Reads it from the description.
    pub(crate) fn new(document: &OpenApi) -> Self {
        // longest first: of two patterns that match, the one with more text is meant
        let mut paths: Vec<_> = document.paths.paths.iter().collect();
        paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.matches('/').count() * 1000 - path.matches('{').count()));
        Self(paths.into_iter().map(|(path, item)| (ResourceDef::new(path.as_str()), methods(item))).collect())
    }

    fn of(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|(pattern, _)| pattern.is_match(path)).map(|(_, methods)| methods.as_str())
    }
}

fn methods(item: &PathItem) -> String {
    let mut methods = Vec::new();
    let mut add = |there: bool, names: &[&'static str]| {
        if there {
            methods.extend_from_slice(names)
        }
    };
    add(item.get.is_some(), &["GET", "HEAD"]);
    add(item.post.is_some(), &["POST"]);
    add(item.put.is_some(), &["PUT", "PATCH"]);
    add(item.delete.is_some(), &["DELETE"]);
    add(true, &["OPTIONS"]);
    methods.join(", ")
}

/// Answers what no route took.
pub(crate) async fn fallback(request: HttpRequest, allowed: web::Data<Allowed>) -> Result<HttpResponse, ApiError> {
    match allowed.of(request.path()) {
        Some(methods) if request.method() == Method::OPTIONS => {
            Ok(HttpResponse::NoContent().insert_header((ALLOW, methods)).finish())
        }
        Some(methods) => Err(ApiError::method_not_allowed(methods.to_owned())),
        None => Err(ApiError::not_found("Path")),
    }
}
