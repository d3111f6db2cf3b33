//! What the models said about one image.

use super::{Time, word_lists};
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use serde_json::Value;
use shared::models::{Analysis, AnalysisStatus, Attribute, Defect, Severity};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// What the models said about one image.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Analysis)]
pub(crate) struct AnalysisView {
    id: Uuid,
    product_image_id: Uuid,
    /// Empty until the models have run.
    model_version: String,
    #[schema(required)]
    classification_label: Option<String>,
    /// 0–1.
    #[schema(required)]
    classification_confidence: Option<f64>,
    /// Label → confidence.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    classification_scores: Value,
    #[schema(required)]
    description_text: Option<String>,
    #[schema(required)]
    description_model: Option<String>,
    /// Milliseconds spent in the steps.
    #[schema(required)]
    processing_time_ms: Option<i64>,
    #[schema(schema_with = word_lists::analysis_status)]
    status: AnalysisStatus,
    #[schema(required)]
    error_message: Option<String>,
    extracted_attributes: Vec<AttributeView>,
    detected_defects: Vec<DefectView>,
    created_at: Time,
    updated_at: Time,
}

/// A property that the image shows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExtractedAttribute)]
pub(crate) struct AttributeView {
    id: Uuid,
    /// `color`, for example.
    attribute_name: String,
    attribute_value: String,
    /// 0–1.
    confidence: f64,
}

/// A flaw.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DetectedDefect)]
pub(crate) struct DefectView {
    id: Uuid,
    defect_type: String,
    #[schema(schema_with = word_lists::severity)]
    severity: Severity,
    /// 0–1.
    confidence: f64,
    bounding_box: BoundingBox,
    description: String,
}

/// In pixels of the upright image, from its upper left corner.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BoundingBox {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl AnalysisView {
    /// Loads the attributes and defects of these analyses, two queries for any number, in the order given.
    pub(crate) async fn load(conn: &mut AsyncPgConnection, analyses: Vec<Analysis>) -> diesel::QueryResult<Vec<Self>> {
        let ids: Vec<Uuid> = analyses.iter().map(|analysis| analysis.id).collect();
        let mut attributes: HashMap<Uuid, Vec<AttributeView>> = HashMap::new();
        for attribute in Attribute::list(conn, &ids).await? {
            attributes.entry(attribute.analysis_id).or_default().push(attribute.into());
        }
        let mut defects: HashMap<Uuid, Vec<DefectView>> = HashMap::new();
        for defect in Defect::list(conn, &ids).await? {
            defects.entry(defect.analysis_id).or_default().push(defect.into());
        }
        Ok(analyses
            .into_iter()
            .map(|analysis| {
                let attributes = attributes.remove(&analysis.id).unwrap_or_default();
                let defects = defects.remove(&analysis.id).unwrap_or_default();
                Self::new(analysis, attributes, defects)
            })
            .collect())
    }

    fn new(analysis: Analysis, extracted_attributes: Vec<AttributeView>, detected_defects: Vec<DefectView>) -> Self {
        Self {
            id: analysis.id,
            product_image_id: analysis.product_image_id,
            model_version: analysis.model_version,
            classification_label: analysis.classification_label,
            classification_confidence: analysis.classification_confidence,
            classification_scores: analysis.classification_scores,
            description_text: analysis.description_text,
            description_model: analysis.description_model,
            processing_time_ms: analysis.processing_time_ms,
            status: analysis.status,
            error_message: analysis.error_message,
            extracted_attributes,
            detected_defects,
            created_at: analysis.created_at.into(),
            updated_at: analysis.updated_at.into(),
        }
    }
}

impl From<Attribute> for AttributeView {
    fn from(attribute: Attribute) -> Self {
        Self {
            id: attribute.id,
            attribute_name: attribute.attribute_name,
            attribute_value: attribute.attribute_value,
            confidence: attribute.confidence,
        }
    }
}

impl From<Defect> for DefectView {
    fn from(defect: Defect) -> Self {
        Self {
            id: defect.id,
            defect_type: defect.defect_type,
            severity: defect.severity,
            confidence: defect.confidence,
            bounding_box: BoundingBox { x: defect.x, y: defect.y, width: defect.width, height: defect.height },
            description: defect.description,
        }
    }
}
