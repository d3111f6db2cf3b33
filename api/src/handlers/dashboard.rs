//! The caller's products and analyses at a glance; one query each.

use crate::{
    auth::Caller,
    error::ApiError,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::{Time, job_status, job_type, status_word},
};
use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Double, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use shared::{kind::JobType, models::JobStatus};
use utoipa::ToSchema;
use uuid::Uuid;

/// Everything of the caller, counted.
#[derive(Debug, Serialize, ToSchema, QueryableByName)]
pub(crate) struct DashboardStats {
    #[diesel(sql_type = BigInt)]
    total_products: i64,
    /// Announced ones included.
    #[diesel(sql_type = BigInt)]
    total_images: i64,
    #[diesel(sql_type = BigInt)]
    completed_analyses: i64,
    #[diesel(sql_type = BigInt)]
    total_defects: i64,
    /// Jobs that wait or run.
    #[diesel(sql_type = BigInt)]
    active_jobs: i64,
    /// Milliseconds, over the completed analyses; 0 without any.
    #[diesel(sql_type = Double)]
    avg_processing_time_ms: f64,
}

/// A job in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecentJob {
    id: Uuid,
    #[schema(schema_with = job_type)]
    job_type: JobType,
    #[schema(schema_with = job_status)]
    status: &'static str,
    total_images: i32,
    processed_images: i32,
    created_at: Time,
    #[schema(required)]
    completed_at: Option<Time>,
}

/// How many products are in a category.
#[derive(Debug, Serialize, ToSchema, QueryableByName)]
pub(crate) struct CategoryCount {
    /// `uncategorized` for products without one.
    #[diesel(sql_type = Text)]
    category: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct RecentRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    job_type: JobType,
    #[diesel(sql_type = Text)]
    status: JobStatus,
    #[diesel(sql_type = Int4)]
    items_total: i32,
    #[diesel(sql_type = Int4)]
    items_done: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    finished_at: Option<DateTime<Utc>>,
}

impl From<RecentRow> for RecentJob {
    fn from(row: RecentRow) -> Self {
        Self {
            id: row.id,
            job_type: row.job_type,
            status: status_word(row.status),
            total_images: row.items_total,
            processed_images: row.items_done,
            created_at: row.created_at.into(),
            completed_at: row.finished_at.map(Time),
        }
    }
}

static RECENT: ListSpec = ListSpec {
    from: "jobs j",
    columns: "j.id, j.payload->>'job_type' AS job_type, j.status, j.items_total, j.items_done, j.created_at, \
              j.finished_at",
    condition: Some("j.kind = 'image_analysis'"),
    id: "j.id",
    default_limit: 10,
    filters: &[],
    searched: &[],
    sortable: &[Sortable::new("created_at", "j.created_at", SortKind::Time)],
};

/// A category has no id, so one is made of its name; it is as old as its newest product.
static CATEGORIES: ListSpec = ListSpec {
    from: "(SELECT user_id, COALESCE(NULLIF(category, ''), 'uncategorized') AS category, count(*) AS count, \
                max(created_at) AS created_at FROM products GROUP BY 1, 2) c",
    columns: "c.category, c.count",
    condition: None,
    id: "md5(c.category)::uuid",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "c.created_at", SortKind::Time),
        Sortable::new("count", "c.count", SortKind::Integer),
        Sortable::new("category", "c.category", SortKind::Text),
    ],
};

/// Count the caller's products, images, analyses, defects and jobs
#[utoipa::path(
    tag = "dashboard",
    security(("bearer" = [])),
    responses((status = 200, description = "The figures", body = DashboardStats)),
)]
#[get("/dashboard/stats")]
pub(crate) async fn get_stats(state: web::Data<State>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let stats: DashboardStats = diesel::sql_query(
        "SELECT (SELECT count(*) FROM products WHERE user_id = $1) AS total_products, \
             (SELECT count(*) FROM product_images WHERE user_id = $1) AS total_images, \
             (SELECT count(*) FROM analysis_defects d JOIN analyses a ON a.id = d.analysis_id \
                  JOIN product_images i ON i.id = a.product_image_id WHERE i.user_id = $1) AS total_defects, \
             (SELECT count(*) FROM jobs WHERE user_id = $1 AND kind = 'image_analysis' \
                  AND status IN ('queued', 'running')) AS active_jobs, \
             done.completed_analyses, done.avg_processing_time_ms \
         FROM (SELECT count(*) AS completed_analyses, \
                   COALESCE(avg(a.processing_time_ms), 0)::double precision AS avg_processing_time_ms \
               FROM analyses a JOIN product_images i ON i.id = a.product_image_id \
               WHERE i.user_id = $1 AND a.status = 'completed') done",
    )
    .bind::<SqlUuid, _>(caller.user_id)
    .get_result(&mut conn)
    .await?;
    Ok(HttpResponse::Ok().json(stats))
}

/// List the latest jobs in brief
#[utoipa::path(
    tag = "dashboard",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of jobs in brief", body = Page<RecentJob>)),
)]
#[get("/dashboard/recent")]
pub(crate) async fn list_recent(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<RecentRow> = list::fetch(&mut conn, &RECENT, &params, &[("j.user_id", caller.user_id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(RecentJob::from).collect())))
}

/// Count the products of each category, largest first
#[utoipa::path(
    tag = "dashboard",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of categories", body = Page<CategoryCount>)),
)]
#[get("/dashboard/category-distribution")]
pub(crate) async fn list_categories(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = request.query_string();
    let asked = url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "sort" || name == "sort_by");
    let params = if asked { ListParams::parse(query) } else { ListParams::parse(&format!("{query}&sort=-count")) };
    let mut conn = state.conn().await?;
    let page: Page<CategoryCount> =
        list::fetch(&mut conn, &CATEGORIES, &params, &[("c.user_id", caller.user_id)]).await?;
    Ok(HttpResponse::Ok().json(page))
}
