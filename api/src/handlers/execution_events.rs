//! `GET /executions/{id}/events`: the events of one execution as server-sent events.

use super::{
    event_stream::{self, EventsQuery},
    executions::find,
};
use crate::{auth::Caller, error::ApiError, state::State, views::About};
use actix_web::{HttpRequest, HttpResponse, get, web};
use uuid::Uuid;

/// Follow an execution
///
/// Server-sent events: `execution:started`, `execution:progress`, `execution:log`, `execution:completed`,
/// `execution:failed`, each with its number as `id`. The stream ends after the last one; asked again, the answer is then
/// 204, which tells a browser to stay away. At most five streams a user.
#[utoipa::path(
    tag = "executions",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was received"),
        EventsQuery,
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 204, description = "It has ended, and all of its events were received"),
        (status = 404, description = "No such execution in your organization"),
        (status = 429, description = "Five streams are open"),
    ),
)]
#[get("/executions/{id}/events")]
pub(crate) async fn follow_execution(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    query: web::Query<EventsQuery>,
) -> Result<HttpResponse, ApiError> {
    let last = event_stream::last_event_id(&request, query.into_inner())?;
    let (execution, job) = find(&mut *state.conn().await?, *id, caller.organization_id).await?;
    let mut about = About::new(&execution, &job);
    event_stream::open(state, &caller, "executions", &job, last, move |event| about.tell(event)).await
}
