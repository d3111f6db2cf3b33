//! For whoever runs the system: is it alive, may it get traffic, what has it done.

use crate::{
    error::{ApiError, ErrorBody, ErrorObject},
    state::State,
    views::Time,
};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, get, web};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;
use futures_util::future::{join, join_all, join3};
use serde::{Deserialize, Serialize};
use shared::{kind::Kind, models::JobStatus};
use std::{fmt::Write, time::Duration};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

/// How long a dependency may take to answer a check.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "healthy")]
    status: &'static str,
    timestamp: Time,
    version: &'static str,
    /// Seconds since the start.
    uptime: u64,
}

/// Is the process alive?
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)))]
#[get("/health")]
pub(crate) async fn get_health(state: web::Data<State>) -> web::Json<Health> {
    web::Json(Health {
        status: "healthy",
        timestamp: Time::now(),
        version: env!("CARGO_PKG_VERSION"),
        uptime: state.started.elapsed().as_secs(),
    })
}

/// What must be up.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct Required {
    /// Some of `database`, `redis`, `storage`, separated by commas; all three if it is not given.
    require: Option<String>,
}

/// Whether the process may get traffic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    #[schema(example = "ready")]
    status: &'static str,
    services: Services,
    checks: Services,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
}

/// A word for each dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Services {
    database: &'static str,
    redis: &'static str,
    storage: &'static str,
}

/// May the process get traffic? Asks Postgres, Redis and the object store.
#[utoipa::path(
    tag = "operations",
    params(Required),
    responses(
        (status = 200, body = Readiness),
        (status = 400, body = ErrorBody, description = "`require` names something else"),
        (status = 503, body = Readiness, description = "Not ready; `error` says why"),
    )
)]
#[get("/ready")]
pub(crate) async fn get_ready(
    state: web::Data<State>,
    required: web::Query<Required>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let required = required.into_inner().require.unwrap_or_default();
    let required: Vec<&str> = required.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = required.iter().find(|name| !["database", "redis", "storage"].contains(name)) {
        return Err(ApiError::invalid_field("require", format!("{unknown:?} is none of: database, redis, storage")));
    }
    let (database, redis, storage) = join3(check_database(&state), check_redis(&state), check_storage(&state)).await;
    let down: Vec<_> = [("database", database), ("redis", redis), ("storage", storage)]
        .into_iter()
        .filter(|(name, up)| !up && (required.is_empty() || required.contains(name)))
        .map(|(name, _)| name)
        .collect();
    let reason = match (state.is_draining(), down.is_empty()) {
        (true, _) => Some("The server is stopping".to_owned()),
        (false, true) => None,
        (false, false) => Some(format!("No answer from: {}", down.join(", "))),
    };
    let words = |up: &'static str, not: &'static str| {
        let word = |is_up: bool| if is_up { up } else { not };
        Services { database: word(database), redis: word(redis), storage: word(storage) }
    };
    let error = reason.map(|reason| {
        let id = request.extensions().get::<crate::edge::RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        ApiError::unavailable(reason, 2).body(&id).error
    });
    let mut answer = if error.is_some() { HttpResponse::ServiceUnavailable() } else { HttpResponse::Ok() };
    if error.is_some() {
        answer.insert_header(("Retry-After", "2"));
    }
    Ok(answer.json(Readiness {
        status: if error.is_some() { "not_ready" } else { "ready" },
        services: words("connected", "disconnected"),
        checks: words("ok", "error"),
        error,
    }))
}

async fn check_database(state: &State) -> bool {
    let asked = async {
        let mut conn = state.conn().await.ok()?;
        diesel::sql_query("SELECT 1").execute(&mut conn).await.ok()
    };
    matches!(timeout(PATIENCE, asked).await, Ok(Some(_)))
}

async fn check_redis(state: &State) -> bool {
    let mut redis = state.redis.clone();
    let ping = redis::cmd("PING");
    let asked = async {
        match ping.query_async::<String>(&mut redis).await {
            // the first command after a break only finds out that the connection is gone; the second uses a new one
            Err(error) if error.is_connection_dropped() || error.is_io_error() => ping.query_async(&mut redis).await,
            answer => answer,
        }
    };
    matches!(timeout(PATIENCE, asked).await, Ok(Ok(_)))
}

async fn check_storage(state: &State) -> bool {
    matches!(timeout(PATIENCE, state.storage.check()).await, Ok(Ok(())))
}

/// Counts and durations since the start, and how many jobs are where, as Prometheus text.
#[utoipa::path(tag = "operations", responses((status = 200, body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub(crate) async fn get_metrics(state: web::Data<State>) -> HttpResponse {
    let (jobs, queues) = join(jobs_text(&state), queues_text(&state)).await;
    // what cannot be asked is left out: the process's own figures are of use even then
    let text = format!("{}{jobs}{queues}", state.metrics.render());
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

#[derive(QueryableByName)]
struct JobCount {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    status: JobStatus,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Jobs that wait or run, and those that ended in the last hour: what an index answers, however many there ever were.
async fn jobs_text(state: &State) -> String {
    let asked = async {
        let mut conn = state.conn().await.ok()?;
        let counted: Vec<JobCount> = diesel::sql_query(
            "SELECT kind, status, count(*) AS count FROM jobs WHERE status = 'queued' GROUP BY 1, 2 \
             UNION ALL \
             SELECT kind, status, count(*) FROM jobs WHERE status = 'running' GROUP BY 1, 2 \
             UNION ALL \
             SELECT kind, status, count(*) FROM jobs WHERE status IN ('completed', 'failed', 'cancelled') \
                 AND finished_at > now() - interval '1 hour' GROUP BY 1, 2",
        )
        .load(&mut conn)
        .await
        .ok()?;
        Some(counted)
    };
    let Ok(Some(counted)) = timeout(PATIENCE, asked).await else { return String::new() };
    let mut text = String::from(
        "# HELP atelier_jobs Jobs by kind and status; ended ones of the last hour.\n# TYPE atelier_jobs gauge\n",
    );
    for kind in Kind::ALL {
        for status in JobStatus::ALL {
            let found = counted.iter().find(|found| found.kind == kind.as_str() && found.status == *status);
            let count = found.map_or(0, |found| found.count);
            // writing to a String cannot fail
            let _ = writeln!(text, "atelier_jobs{{kind=\"{kind}\",status=\"{status}\"}} {count}");
        }
    }
    text
}

async fn queues_text(state: &State) -> String {
    let depths = join_all(state.queues().map(async |queue| (queue.name(), queue.depth().await.ok())));
    let Ok(depths) = timeout(PATIENCE, depths).await else { return String::new() };
    let mut text =
        String::from("# HELP atelier_queue_depth Job ids in Redis, by place.\n# TYPE atelier_queue_depth gauge\n");
    for (queue, depth) in depths {
        let Some(depth) = depth else { continue };
        for (place, count) in [("ready", depth.ready), ("delayed", depth.delayed), ("leased", depth.leased)] {
            let _ = writeln!(text, "atelier_queue_depth{{queue=\"{queue}\",place=\"{place}\"}} {count}");
        }
    }
    text
}
