//! Products. Only their owner sees them.

use super::jobs::tell_stopped;
use crate::{
    auth::Caller,
    error::ApiError,
    extract::{Valid, not_blank},
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{ImageView, ProductView, settable_status},
};
use actix_web::{HttpResponse, delete, get, post, put, web};
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use shared::models::{NewProduct, Product, ProductChanges, ProductImage, ProductStatus};
use utoipa::ToSchema;
use uuid::Uuid;

/// A product to be made.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct CreateProduct {
    #[garde(length(chars, min = 1, max = 255), custom(not_blank))]
    #[schema(min_length = 1, max_length = 255)]
    title: String,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    description: Option<String>,
    #[garde(length(chars, max = 255))]
    #[schema(max_length = 255)]
    category: Option<String>,
    #[garde(length(chars, max = 255))]
    #[schema(max_length = 255)]
    subcategory: Option<String>,
    /// Anything; kept as it is.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The same as `metadata`.
    #[garde(custom(same_as(&self.metadata)))]
    #[schema(value_type = Option<Object>)]
    metadata_: Option<Map<String, Value>>,
    /// `draft` unless it is given; `processing` cannot be given.
    #[garde(custom(settable))]
    #[schema(schema_with = settable_status)]
    status: Option<ProductStatus>,
}

/// What is to change in a product; what is not sent stays, null empties.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct UpdateProduct {
    #[garde(length(chars, min = 1, max = 255), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 255)]
    title: Option<String>,
    #[garde(length(chars, max = 20_000))]
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, max_length = 20_000)]
    description: Option<Option<String>>,
    #[garde(length(chars, max = 255))]
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, max_length = 255)]
    category: Option<Option<String>>,
    #[garde(length(chars, max = 255))]
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, max_length = 255)]
    subcategory: Option<Option<String>>,
    /// Replaces the whole.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The same as `metadata`.
    #[garde(custom(same_as(&self.metadata)))]
    #[schema(value_type = Option<Object>)]
    metadata_: Option<Map<String, Value>>,
    /// `processing` is accepted only from a product that is just that, and changes nothing.
    #[garde(skip)]
    #[schema(schema_with = settable_status)]
    status: Option<ProductStatus>,
}

/// Tells a null, which empties a field, from a field that was not sent.
fn sent<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn settable(status: &Option<ProductStatus>, (): &()) -> garde::Result {
    match status {
        Some(ProductStatus::Processing) => Err(garde::Error::new(NOT_SETTABLE)),
        Some(ProductStatus::Draft | ProductStatus::Active | ProductStatus::Archived) | None => Ok(()),
    }
}

const NOT_SETTABLE: &str = "processing is shown while an image is analysed and cannot be set";

fn same_as<T: PartialEq>(other: &Option<T>) -> impl FnOnce(&Option<T>, &()) -> garde::Result + '_ {
    move |this, ()| match (this, other) {
        (Some(this), Some(other)) if this != other => Err(garde::Error::new("differs from metadata; send one of them")),
        (_, _) => Ok(()),
    }
}

/// The products of one user.
static PRODUCTS: ListSpec = ListSpec {
    from: "products p",
    columns: "p.*",
    condition: None,
    id: "p.id",
    default_limit: 20,
    filters: &[
        Filter { name: "category", sql: "p.category", values: Values::Text },
        Filter { name: "status", sql: "p.status", values: STATUSES },
    ],
    searched: &["p.title", "p.description"],
    sortable: &[
        Sortable::new("created_at", "p.created_at", SortKind::Time),
        Sortable::new("updated_at", "p.updated_at", SortKind::Time),
        Sortable::new("title", "p.title", SortKind::Text),
        Sortable::nullable("category", "p.category", SortKind::Text),
        Sortable::new("status", "p.status", SortKind::Text),
    ],
};

/// Clients and the table use the same words.
const STATUSES: Values =
    Values::Words(&[("draft", "draft"), ("processing", "processing"), ("active", "active"), ("archived", "archived")]);

/// List products
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(
        ("category" = Option<String>, Query, description = "One or several, separated by commas"),
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of products", body = Page<ProductView>)),
)]
#[get("/products")]
pub(crate) async fn list_products(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<Product> = list::fetch(&mut conn, &PRODUCTS, &params, &[("p.user_id", caller.user_id)]).await?;
    let ids: Vec<Uuid> = page.data.iter().map(|product| product.id).collect();
    let images = ProductImage::list_of_products(&mut conn, &ids).await?;
    drop(conn);
    let data = ProductView::list(page.data, images, &state.storage).await.map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().json(Page { data, pagination: page.pagination }))
}

/// Make a product
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    request_body = CreateProduct,
    responses((status = 201, description = "The product", body = ProductView)),
)]
#[post("/products")]
pub(crate) async fn create_product(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<CreateProduct>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let product = NewProduct {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        title: body.title,
        description: body.description,
        category: body.category,
        subcategory: body.subcategory,
        status: body.status.unwrap_or(ProductStatus::Draft),
        metadata: Value::Object(body.metadata.or(body.metadata_).unwrap_or_default()),
    };
    let mut conn = state.conn().await?;
    let product = once(&mut conn, async |conn| Ok(Product::insert(conn, &product).await?)).await?;
    Ok(HttpResponse::Created().json(ProductView::new(product, Vec::new())))
}

/// Show a product
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The product", body = ProductView),
        (status = 404, description = "No such product of yours"),
    ),
)]
#[get("/products/{product_id}")]
pub(crate) async fn get_product(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let product = find(&mut conn, *id, caller.user_id).await?;
    show(&state, &mut conn, product).await
}

/// Change a product
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path)),
    request_body = UpdateProduct,
    responses(
        (status = 200, description = "The product", body = ProductView),
        (status = 404, description = "No such product of yours"),
    ),
)]
#[put("/products/{product_id}")]
pub(crate) async fn update_product(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    body: Valid<UpdateProduct>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let mut conn = state.conn().await?;
    let mut status = body.status;
    if status == Some(ProductStatus::Processing) {
        // a client that sends back what it read must not fail, and must not hold the product in this state
        if find(&mut conn, *id, caller.user_id).await?.status != ProductStatus::Processing {
            return Err(ApiError::invalid_field("status", NOT_SETTABLE));
        }
        status = None;
    }
    let changes = ProductChanges {
        title: body.title,
        description: body.description,
        category: body.category,
        subcategory: body.subcategory,
        status,
        metadata: body.metadata.or(body.metadata_).map(Value::Object),
        updated_at: None,
    };
    let product = Product::update(&mut conn, *id, caller.user_id, changes).await?;
    show(&state, &mut conn, product.ok_or_else(|| ApiError::not_found("Product"))?).await
}

/// Delete a product with its images and analyses
///
/// Analyses that wait or run are cancelled.
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "No such product of yours")),
)]
#[delete("/products/{product_id}")]
pub(crate) async fn delete_product(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let stopped = Product::delete(&mut conn, *id, caller.user_id).await?;
    let stopped = stopped.ok_or_else(|| ApiError::not_found("Product"))?;
    drop(conn);
    tell_stopped(&state, &stopped).await;
    Ok(HttpResponse::NoContent().finish())
}

/// The product, if it is the caller's.
pub(super) async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Product, ApiError> {
    Product::find(conn, id, user_id).await?.ok_or_else(|| ApiError::not_found("Product"))
}

async fn show(state: &State, conn: &mut AsyncPgConnection, product: Product) -> Result<HttpResponse, ApiError> {
    let mut images = Vec::new();
    for image in ProductImage::list_of_products(conn, &[product.id]).await? {
        images.push(ImageView::new(image, &state.storage).await.map_err(ApiError::internal)?);
    }
    Ok(HttpResponse::Ok().json(ProductView::new(product, images)))
}
