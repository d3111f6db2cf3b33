//! A product with its images.

use super::{ImageView, Time, word_lists};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use shared::{
    models::{Product, ProductImage, ProductStatus},
    storage::Storage,
};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// A product with its images.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub(crate) struct ProductView {
    id: Uuid,
    user_id: Uuid,
    title: String,
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    category: Option<String>,
    #[schema(required)]
    subcategory: Option<String>,
    /// The description that the analysis of the primary image gave.
    #[schema(required)]
    ai_description: Option<String>,
    #[schema(schema_with = word_lists::product_status)]
    status: ProductStatus,
    /// Anything; kept as it was sent.
    #[schema(value_type = Object)]
    metadata: Value,
    /// The same as `metadata`.
    #[schema(value_type = Object)]
    metadata_: Value,
    images: Vec<ImageView>,
    created_at: Time,
    updated_at: Time,
}

impl ProductView {
    /// Puts products and their images together, in the order of the products.
    pub(crate) async fn list(
        products: Vec<Product>,
        images: Vec<ProductImage>,
        storage: &Storage,
    ) -> Result<Vec<Self>> {
        let mut by_product: HashMap<Uuid, Vec<ImageView>> = HashMap::new();
        for image in images {
            let product_id = image.product_id;
            by_product.entry(product_id).or_default().push(ImageView::new(image, storage).await?);
        }
        Ok(products
            .into_iter()
            .map(|product| {
                let images = by_product.remove(&product.id).unwrap_or_default();
                Self::new(product, images)
            })
            .collect())
    }

    /// One product.
    pub(crate) fn new(product: Product, images: Vec<ImageView>) -> Self {
        Self {
            id: product.id,
            user_id: product.user_id,
            title: product.title,
            description: product.description,
            category: product.category,
            subcategory: product.subcategory,
            ai_description: product.ai_description,
            status: product.status,
            metadata: product.metadata.clone(),
            metadata_: product.metadata,
            images,
            created_at: product.created_at.into(),
            updated_at: product.updated_at.into(),
        }
    }
}
