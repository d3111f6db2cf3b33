//! `GET /orchestration/{run_id}/events`: the events of one orchestration as server-sent events.

use super::{
    event_stream::{self, EventsQuery},
    orchestrations::find,
};
use crate::{auth::Caller, error::ApiError, state::State, views::AboutOrchestration};
use actix_web::{HttpRequest, HttpResponse, get, web};
use uuid::Uuid;

/// Follow an orchestration
///
/// Server-sent events: `orchestration:started`, `orchestration:progress`, `orchestration:log`, `orchestration:completed`,
/// `orchestration:failed`, each with its number as `id`. The stream ends after the last one; asked again, the answer is
/// then 204, which tells a browser to stay away. At most five streams a user.
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    params(
        ("run_id" = Uuid, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was received"),
        EventsQuery,
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 204, description = "It has ended, and all of its events were received"),
        (status = 404, description = "No such orchestration in your organization"),
        (status = 429, description = "Five streams are open"),
    ),
)]
#[get("/orchestration/{run_id}/events")]
pub(crate) async fn follow_orchestration(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    query: web::Query<EventsQuery>,
) -> Result<HttpResponse, ApiError> {
    let last = event_stream::last_event_id(&request, query.into_inner())?;
    let (orchestration, job) = find(&mut *state.conn().await?, *id, caller.organization_id).await?;
    let mut about = AboutOrchestration::new(&orchestration, job.started_at);
    event_stream::open(state, &caller, "orchestrations", &job, last, move |event| about.tell(event)).await
}
