//! What the models said about an image: one analysis an image, overwritten by a retry.
//!
//! Only the job named in `job_id` writes here; the caller has passed its fence in the same transaction.

use super::JobStatus;
use crate::{
    schema::{analyses, analysis_attributes, analysis_defects, job_images, product_images, products},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

text_enum! {
    /// Where an analysis stands.
    AnalysisStatus {
        /// Its job waits.
        Pending = "pending",
        /// Its job runs.
        Processing = "processing",
        /// The result is there.
        Completed = "completed",
        /// It ended without a result.
        Failed = "failed",
    }
}

text_enum! {
    /// How bad a defect is.
    Severity {
        /// Hardly seen.
        Low = "low",
        /// Seen at once.
        Medium = "medium",
        /// Makes the product unfit for sale.
        High = "high",
    }
}

/// An analysis as stored, without its attributes and defects.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName, Identifiable)]
#[diesel(table_name = analyses, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Analysis {
    pub id: Uuid,
    pub product_image_id: Uuid,
    pub job_id: Option<Uuid>,
    pub model_version: String,
    pub classification_label: Option<String>,
    pub classification_confidence: Option<f64>,
    pub classification_scores: Value,
    pub description_text: Option<String>,
    pub description_model: Option<String>,
    pub processing_time_ms: Option<i64>,
    pub status: AnalysisStatus,
    pub error_message: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A property that the image shows, such as its colour.
#[derive(Debug, Clone, Queryable, Selectable, Identifiable, Insertable)]
#[diesel(table_name = analysis_attributes, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the names say it")]
pub struct Attribute {
    pub id: Uuid,
    pub analysis_id: Uuid,
    pub attribute_name: String,
    pub attribute_value: String,
    /// 0–1.
    pub confidence: f64,
}

/// A flaw, with its box in pixels of the upright image.
#[derive(Debug, Clone, Queryable, Selectable, Identifiable, Insertable)]
#[diesel(table_name = analysis_defects, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the names say it")]
pub struct Defect {
    pub id: Uuid,
    pub analysis_id: Uuid,
    pub defect_type: String,
    pub severity: Severity,
    /// 0–1.
    pub confidence: f64,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub description: String,
}

/// A finished analysis, to be written.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Which models, in which versions.
    pub model_version: String,
    /// The best label.
    pub label: String,
    /// Its probability, 0–1.
    pub confidence: f64,
    /// Label → probability.
    pub scores: Value,
    /// The sentence.
    pub description: String,
    /// What wrote the sentence.
    pub description_model: String,
    /// Time spent in the steps of this image, in milliseconds.
    pub processing_time_ms: i64,
    /// Name, value, confidence.
    pub attributes: Vec<(String, String, f64)>,
    /// The flaws; their ids and `analysis_id` are set here.
    pub defects: Vec<Defect>,
}

impl Analysis {
    /// Makes the images' analyses wait for a job: new rows, or old results put back to `pending`.
    pub async fn await_job(conn: &mut AsyncPgConnection, job_id: Uuid, image_ids: &[Uuid]) -> QueryResult<()> {
        let ids: Vec<Uuid> = image_ids.iter().map(|_| Uuid::now_v7()).collect();
        diesel::sql_query(
            "INSERT INTO analyses (id, product_image_id, job_id) \
             SELECT id, image, $1 FROM UNNEST($2, $3) AS new (id, image) \
             ON CONFLICT (product_image_id) DO UPDATE SET job_id = $1, status = 'pending', error_message = NULL, \
                 updated_at = now()",
        )
        .bind::<SqlUuid, _>(job_id)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<SqlUuid>, _>(image_ids)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// The analysis of an image of this user, if there is one.
    pub async fn find(conn: &mut AsyncPgConnection, image_id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        analyses::table
            .inner_join(product_images::table)
            .filter(analyses::product_image_id.eq(image_id).and(product_images::user_id.eq(user_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// The job has begun with this image.
    pub async fn begin(conn: &mut AsyncPgConnection, job_id: Uuid, image_id: Uuid) -> QueryResult<()> {
        diesel::update(analyses::table)
            .filter(analyses::product_image_id.eq(image_id).and(analyses::job_id.eq(job_id)))
            .set((analyses::status.eq(AnalysisStatus::Processing), analyses::updated_at.eq(diesel::dsl::now)))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Writes the result over whatever was there, and makes the product's description follow its primary image.
    pub async fn complete(
        conn: &mut AsyncPgConnection,
        job_id: Uuid,
        image_id: Uuid,
        findings: Findings,
    ) -> QueryResult<()> {
        let analysis_id: Option<Uuid> = diesel::update(analyses::table)
            .filter(analyses::product_image_id.eq(image_id).and(analyses::job_id.eq(job_id)))
            .set((
                analyses::model_version.eq(&findings.model_version),
                analyses::classification_label.eq(&findings.label),
                analyses::classification_confidence.eq(findings.confidence),
                analyses::classification_scores.eq(&findings.scores),
                analyses::description_text.eq(&findings.description),
                analyses::description_model.eq(&findings.description_model),
                analyses::processing_time_ms.eq(findings.processing_time_ms),
                analyses::status.eq(AnalysisStatus::Completed),
                analyses::error_message.eq(None::<String>),
                analyses::updated_at.eq(diesel::dsl::now),
            ))
            .returning(analyses::id)
            .get_result(conn)
            .await
            .optional()?;
        // the image, and its analysis with it, may have been deleted while the models ran
        let Some(analysis_id) = analysis_id else { return Ok(()) };
        clear(conn, analysis_id).await?;
        let attributes: Vec<Attribute> = findings
            .attributes
            .into_iter()
            .map(|(attribute_name, attribute_value, confidence)| Attribute {
                id: Uuid::now_v7(),
                analysis_id,
                attribute_name,
                attribute_value,
                confidence,
            })
            .collect();
        let mut defects = findings.defects;
        for defect in &mut defects {
            defect.id = Uuid::now_v7();
            defect.analysis_id = analysis_id;
        }
        diesel::insert_into(analysis_attributes::table).values(attributes).execute(conn).await?;
        diesel::insert_into(analysis_defects::table).values(defects).execute(conn).await?;
        mark_image(conn, job_id, image_id, "completed", None).await?;
        diesel::update(products::table)
            .filter(
                products::id.eq_any(
                    product_images::table
                        .filter(product_images::id.eq(image_id).and(product_images::is_primary))
                        .select(product_images::product_id),
                ),
            )
            .set((products::ai_description.eq(&findings.description), products::updated_at.eq(diesel::dsl::now)))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// The image could not be analysed, for good.
    pub async fn fail(conn: &mut AsyncPgConnection, job_id: Uuid, image_id: Uuid, message: &str) -> QueryResult<()> {
        let analysis_id: Option<Uuid> = diesel::update(analyses::table)
            .filter(analyses::product_image_id.eq(image_id).and(analyses::job_id.eq(job_id)))
            .set(failed(message))
            .returning(analyses::id)
            .get_result(conn)
            .await
            .optional()?;
        if let Some(analysis_id) = analysis_id {
            clear(conn, analysis_id).await?;
        }
        mark_image(conn, job_id, image_id, "failed", Some(message)).await
    }
}

impl Attribute {
    /// The attributes of several analyses, by analysis, in the order in which they were found.
    pub async fn list(conn: &mut AsyncPgConnection, analysis_ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        analysis_attributes::table
            .filter(analysis_attributes::analysis_id.eq_any(analysis_ids))
            .order((analysis_attributes::analysis_id, analysis_attributes::id))
            .select(Self::as_select())
            .load(conn)
            .await
    }
}

impl Defect {
    /// The defects of several analyses, by analysis, in the order in which they were found.
    pub async fn list(conn: &mut AsyncPgConnection, analysis_ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        analysis_defects::table
            .filter(analysis_defects::analysis_id.eq_any(analysis_ids))
            .order((analysis_defects::analysis_id, analysis_defects::id))
            .select(Self::as_select())
            .load(conn)
            .await
    }
}

type FailedColumns = (
    diesel::dsl::Eq<analyses::status, AnalysisStatus>,
    diesel::dsl::Eq<analyses::error_message, String>,
    diesel::dsl::Eq<analyses::classification_label, Option<String>>,
    diesel::dsl::Eq<analyses::classification_confidence, Option<f64>>,
    diesel::dsl::Eq<analyses::classification_scores, Value>,
    diesel::dsl::Eq<analyses::description_text, Option<String>>,
    diesel::dsl::Eq<analyses::description_model, Option<String>>,
    diesel::dsl::Eq<analyses::updated_at, diesel::dsl::now>,
);

/// A failed analysis shows nothing of an earlier result.
fn failed(message: &str) -> FailedColumns {
    (
        analyses::status.eq(AnalysisStatus::Failed),
        analyses::error_message.eq(message.to_owned()),
        analyses::classification_label.eq(None),
        analyses::classification_confidence.eq(None),
        analyses::classification_scores.eq(Value::Object(serde_json::Map::new())),
        analyses::description_text.eq(None),
        analyses::description_model.eq(None),
        analyses::updated_at.eq(diesel::dsl::now),
    )
}

async fn clear(conn: &mut AsyncPgConnection, analysis_id: Uuid) -> QueryResult<()> {
    diesel::delete(analysis_attributes::table.filter(analysis_attributes::analysis_id.eq(analysis_id)))
        .execute(conn)
        .await?;
    diesel::delete(analysis_defects::table.filter(analysis_defects::analysis_id.eq(analysis_id))).execute(conn).await?;
    Ok(())
}

async fn mark_image(
    conn: &mut AsyncPgConnection,
    job_id: Uuid,
    image_id: Uuid,
    status: &str,
    message: Option<&str>,
) -> QueryResult<()> {
    diesel::update(job_images::table.find((job_id, image_id)))
        .set((job_images::status.eq(status), job_images::error_message.eq(message)))
        .execute(conn)
        .await?;
    Ok(())
}

/// What the ends of analysis jobs mean for what they were about: analyses without a result fail, and a product is what it
/// was, or `active` once any of its images has a completed analysis.
pub(super) async fn settle(
    conn: &mut AsyncPgConnection,
    ended: &[(Uuid, JobStatus, std::borrow::Cow<'_, str>)],
) -> QueryResult<()> {
    // whoever ends another job of the same product waits here, and then sees that this one has ended
    let ids: Vec<_> = ended.iter().map(|(id, ..)| *id).collect();
    diesel::sql_query(
        "SELECT FROM products WHERE id IN (SELECT (payload->>'product_id')::uuid FROM jobs WHERE id = ANY($1)) \
         ORDER BY id FOR NO KEY UPDATE",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(conn)
    .await?;
    for (job_id, status, message) in ended {
        settle_one(conn, *job_id, *status, message).await?;
    }
    Ok(())
}

async fn settle_one(conn: &mut AsyncPgConnection, job_id: Uuid, status: JobStatus, message: &str) -> QueryResult<()> {
    if status != JobStatus::Completed {
        diesel::update(analyses::table)
            .filter(analyses::job_id.eq(job_id))
            .filter(analyses::status.eq_any([AnalysisStatus::Pending, AnalysisStatus::Processing]))
            .set(failed(message))
            .execute(conn)
            .await?;
        diesel::update(job_images::table)
            .filter(job_images::job_id.eq(job_id).and(job_images::status.eq("pending")))
            .set((job_images::status.eq("failed"), job_images::error_message.eq(message)))
            .execute(conn)
            .await?;
    }
    // products stay `processing` while another job still works on an image of theirs
    diesel::sql_query(
        "UPDATE products SET updated_at = now(), status = CASE WHEN EXISTS ( \
                 SELECT 1 FROM product_images i JOIN analyses a ON a.product_image_id = i.id \
                 WHERE i.product_id = products.id AND a.status = 'completed') THEN 'active' ELSE 'draft' END \
         WHERE status = 'processing' \
           AND id = (SELECT (payload->>'product_id')::uuid FROM jobs WHERE id = $1) \
           AND NOT EXISTS ( \
                 SELECT 1 FROM product_images i \
                 JOIN job_images ji ON ji.image_id = i.id \
                 JOIN jobs j ON j.id = ji.job_id \
                 WHERE i.product_id = products.id AND j.id <> $1 AND j.status IN ('queued', 'running'))",
    )
    .bind::<SqlUuid, _>(job_id)
    .execute(conn)
    .await?;
    Ok(())
}
