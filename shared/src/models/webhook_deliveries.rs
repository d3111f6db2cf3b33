//! Webhook deliveries: one event on its way to one receiver, each a job of kind `webhook_delivery`, written in the
//! transaction of what it tells of.
//!
//! Here is how they come about; `end_events` says what the ends of jobs tell, `delivery_reads` what became of them.

use super::{Job, NewJob, Tier, Webhook};
use crate::{
    kind::{Payload, WebhookDelivery},
    queue::Hint,
    schema::webhook_deliveries,
    webhook_event::{Audience, WebhookEvent},
};
use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{BoxedSqlQuery, SqlQuery},
    sql_types::{Array, Bool, Int4, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

pub(super) use super::end_events::announce_ends;

/// Deliveries in one statement.
const MOST_ROWS: usize = 1_000;

/// Who hears of what: the active webhooks that have subscribed, of the user concerned or of all who are members of the
/// organization now, and the call back that a run was started with. Whoever was disabled hears nothing.
///
/// The webhooks are held: one that is deleted now goes after the transaction, with its deliveries, instead of refusing them.
const HEARERS: &str = "hearing AS ( \
    SELECT place, about, w.id AS webhook_id, NULL::uuid AS execution_id, w.user_id, w.organization_id \
    FROM occurred o, LATERAL ( \
        SELECT id, user_id, organization_id FROM webhooks \
        WHERE user_id = o.about AND is_active AND o.event = ANY(events) FOR KEY SHARE \
    ) w WHERE NOT o.of_organization \
    UNION ALL \
    SELECT place, about, w.id, NULL, w.user_id, w.organization_id \
    FROM occurred o, LATERAL ( \
        SELECT id, user_id, organization_id FROM webhooks w \
        WHERE organization_id = o.organization_id AND is_active AND o.event = ANY(events) AND EXISTS ( \
            SELECT FROM memberships m WHERE m.organization_id = w.organization_id AND m.user_id = w.user_id) \
        FOR KEY SHARE \
    ) w WHERE o.of_organization \
    UNION ALL \
    SELECT place, about, NULL, x.id, x.user_id, x.organization_id \
    FROM occurred o JOIN executions x ON x.id = o.job_id \
    WHERE o.of_organization AND x.webhook_url IS NOT NULL \
) \
SELECT place, about, webhook_id, execution_id, user_id, hearing.organization_id, subscription_tier AS tier \
FROM hearing JOIN organizations ON organizations.id = hearing.organization_id \
    JOIN users ON users.id = hearing.user_id AND users.is_active \
ORDER BY place, execution_id, webhook_id";

/// Something that webhooks may want to hear of.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// What happened.
    pub event: WebhookEvent,
    /// The user concerned.
    pub user_id: Uuid,
    /// The organization it happened in.
    pub organization_id: Uuid,
    /// What there is to say.
    pub data: Value,
}

/// Somebody who is to hear of something.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Hearer {
    /// Which of the things that occurred.
    #[diesel(sql_type = Int4)]
    pub(super) place: i32,
    /// The user whom it concerns.
    #[diesel(sql_type = SqlUuid)]
    pub(super) about: Uuid,
    /// The webhook; none: the call back of a run.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(super) webhook_id: Option<Uuid>,
    /// The run whose call back it is.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(super) execution_id: Option<Uuid>,
    /// Whose delivery it will be.
    #[diesel(sql_type = SqlUuid)]
    pub(super) user_id: Uuid,
    /// The tenant that it will count for.
    #[diesel(sql_type = SqlUuid)]
    pub(super) organization_id: Uuid,
    /// The tenant's.
    #[diesel(sql_type = Text)]
    pub(super) tier: Tier,
}

/// What is sent.
#[derive(Serialize)]
struct Body<'a> {
    id: Uuid,
    event: WebhookEvent,
    data: &'a Value,
}

impl Occurrence {
    /// Writes a delivery for each active webhook that has subscribed, in the caller's transaction.
    pub async fn announce(conn: &mut AsyncPgConnection, occurrences: &[Self]) -> QueryResult<Vec<Hint>> {
        if occurrences.is_empty() {
            return Ok(Vec::new());
        }
        let hearers = hearers(
            "SELECT place, event, of_organization, about, organization_id, NULL::uuid AS job_id \
             FROM UNNEST($1, $2, $3, $4, $5) AS o (place, event, of_organization, about, organization_id)",
            occurrences.iter().map(|occurrence| occurrence.event),
        )
        .bind::<Array<SqlUuid>, _>(occurrences.iter().map(|occurrence| occurrence.user_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(occurrences.iter().map(|occurrence| occurrence.organization_id).collect::<Vec<_>>());
        let hearers: Vec<Hearer> = hearers.load(conn).await?;
        let told = (0..).zip(occurrences).map(|(place, occurrence)| (place, (occurrence.event, &occurrence.data)));
        deliver(conn, &hearers, &told.collect()).await
    }
}

/// The query for those who hear of what occurred. `occurred` is SQL for `place, event, of_organization, about,
/// organization_id, job_id` out of `$1` to `$3`, which are bound here, and what the caller binds.
pub(super) fn hearers(
    occurred: &str,
    events: impl Iterator<Item = WebhookEvent> + Clone,
) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
    let places: Vec<i32> = (0..).zip(events.clone()).map(|(place, _)| place).collect();
    let of_organization = events.clone().map(|event| event.audience() == Audience::Organization);
    diesel::sql_query(format!("WITH occurred AS ({occurred}), {HEARERS}"))
        .into_boxed()
        .bind::<Array<Int4>, _>(places)
        .bind::<Array<Text>, _>(events.collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(of_organization.collect::<Vec<_>>())
}

/// Writes a delivery for each hearer of what is `told`, by its place, in their order.
pub(super) async fn deliver(
    conn: &mut AsyncPgConnection,
    hearers: &[Hearer],
    told: &HashMap<i32, (WebhookEvent, &Value)>,
) -> QueryResult<Vec<Hint>> {
    let mut hints = Vec::with_capacity(hearers.len());
    for hearers in hearers.chunks(MOST_ROWS) {
        let (mut jobs, mut rows) = (Vec::with_capacity(hearers.len()), Vec::with_capacity(hearers.len()));
        for hearer in hearers {
            let Some(&(event, data)) = told.get(&hearer.place) else { continue };
            let payload = Payload::WebhookDelivery(WebhookDelivery {});
            let job = NewJob::new(hearer.user_id, hearer.organization_id, hearer.tier.weight(), payload);
            let body = body(job.id, event, data)?;
            rows.push((hearer, event, body));
            jobs.push(job);
        }
        if jobs.is_empty() {
            continue;
        }
        Job::insert_all(conn, &jobs).await?;
        // sorted, so that their numbers are in the order in which they were told
        diesel::sql_query(
            "INSERT INTO webhook_deliveries (id, webhook_id, execution_id, event, body) \
             SELECT id, webhook_id, execution_id, event, body \
             FROM UNNEST($1, $2, $3, $4, $5) WITH ORDINALITY AS d (id, webhook_id, execution_id, event, body, place) \
             ORDER BY place",
        )
        .bind::<Array<SqlUuid>, _>(jobs.iter().map(|job| job.id).collect::<Vec<_>>())
        .bind::<Array<Nullable<SqlUuid>>, _>(rows.iter().map(|(hearer, ..)| hearer.webhook_id).collect::<Vec<_>>())
        .bind::<Array<Nullable<SqlUuid>>, _>(rows.iter().map(|(hearer, ..)| hearer.execution_id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|(_, event, _)| *event).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|(.., body)| body.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await?;
        hints.extend(jobs.iter().map(NewJob::hint));
    }
    Ok(hints)
}

impl Webhook {
    /// Writes a delivery to this webhook, whether it is active and has subscribed or not, in the caller's transaction.
    pub async fn tell(
        &self,
        conn: &mut AsyncPgConnection,
        weight: u16,
        event: WebhookEvent,
        data: &Value,
    ) -> QueryResult<Hint> {
        let payload = Payload::WebhookDelivery(WebhookDelivery {});
        let job = NewJob::new(self.user_id, self.organization_id, weight, payload);
        let body = body(job.id, event, data)?;
        Job::insert(conn, &job).await?;
        diesel::insert_into(webhook_deliveries::table)
            .values((
                webhook_deliveries::id.eq(job.id),
                webhook_deliveries::webhook_id.eq(self.id),
                webhook_deliveries::event.eq(event.as_str()),
                webhook_deliveries::body.eq(body),
            ))
            .execute(conn)
            .await?;
        Ok(job.hint())
    }
}

fn body(id: Uuid, event: WebhookEvent, data: &Value) -> QueryResult<String> {
    serde_json::to_string(&Body { id, event, data })
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))
}
