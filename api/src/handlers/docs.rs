//! The API's description, and two pages that show it. Everything they need is part of the binary: no other host is
//! asked, and no script stands inside a page, so that their content security policy can be strict.

use crate::error::ApiError;
use actix_web::{
    HttpResponse, get,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web,
};
use anyhow::Context;
use bytes::Bytes;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

const SWAGGER_PAGE: &str = include_str!("../../assets/swagger.html");
const SWAGGER_START: &str = include_str!("../../assets/swagger-start.js");
const REDOC_PAGE: &str = include_str!("../../assets/redoc.html");
const REDOC_SCRIPT: &[u8] = include_bytes!("../../assets/redoc.standalone.js");

/// An asset changes only with the binary.
const ONE_HOUR: &str = "public, max-age=3600";

/// The description in both forms, written once.
pub(crate) struct Documents {
    json: Bytes,
    yaml: Bytes,
    swagger: Arc<utoipa_swagger_ui::Config<'static>>,
}

impl Documents {
    pub(crate) fn new(document: &OpenApi) -> anyhow::Result<Self> {
        Ok(Self {
            json: document.to_pretty_json().context("the API's description as JSON")?.into(),
            yaml: document.to_yaml().context("the API's description as YAML")?.into(),
            swagger: Arc::new(utoipa_swagger_ui::Config::from("/openapi.json")),
        })
    }
}

/// The description as JSON.
#[utoipa::path(tag = "operations", responses((status = 200, content_type = "application/json", body = Object)))]
#[get("/openapi.json")]
pub(crate) async fn get_openapi_json(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(documents.json.clone())
}

/// The description as YAML.
#[utoipa::path(tag = "operations", responses((status = 200, content_type = "application/yaml", body = Object)))]
#[get("/openapi.yaml")]
pub(crate) async fn get_openapi_yaml(documents: web::Data<Documents>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/yaml").body(documents.yaml.clone())
}

/// Swagger UI: read the description and try it.
#[utoipa::path(tag = "operations", responses((status = 200, content_type = "text/html", body = String)))]
#[get("/docs")]
pub(crate) async fn get_docs() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(SWAGGER_PAGE)
}

/// A script or style of Swagger UI.
#[utoipa::path(tag = "operations", params(("file",)), responses((status = 200, body = String, content_type = "text/javascript"), (status = 404)))]
#[get("/docs/{file}")]
pub(crate) async fn get_docs_asset(
    documents: web::Data<Documents>,
    file: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    if *file == "start.js" {
        return Ok(asset("text/javascript; charset=utf-8", SWAGGER_START));
    }
    let found = utoipa_swagger_ui::serve(&file, documents.swagger.clone());
    match found.map_err(|error| ApiError::internal(anyhow::anyhow!("Swagger UI: {error}")))? {
        // its own page has a script inside and relative paths; ours replaces it
        Some(found) if !file.ends_with(".html") => Ok(asset(&found.content_type, found.bytes.into_owned())),
        Some(_) | None => Err(ApiError::not_found("File")),
    }
}

/// ReDoc: the description as one page to read.
#[utoipa::path(tag = "operations", responses((status = 200, content_type = "text/html", body = String)))]
#[get("/redoc")]
pub(crate) async fn get_redoc() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(REDOC_PAGE)
}

/// The script of ReDoc.
#[utoipa::path(tag = "operations", params(("file",)), responses((status = 200, body = String, content_type = "text/javascript"), (status = 404)))]
#[get("/redoc/{file}")]
pub(crate) async fn get_redoc_asset(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    match file.as_str() {
        "redoc.standalone.js" => Ok(asset("text/javascript; charset=utf-8", REDOC_SCRIPT)),
        _ => Err(ApiError::not_found("File")),
    }
}

fn asset(content_type: &str, body: impl Into<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, ONE_HOUR))
        .body(body.into())
}
