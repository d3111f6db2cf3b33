//! What workers write of webhook deliveries: each HTTP request, in the transaction that ends the attempt or lets the delivery
//! wait for the next; and what the ends of deliveries mean for their webhooks.

use super::{
    Ending, Failure, Finish, NewMail, Waiting,
    delivery_loads::{Line, LineHead},
    job_claims::interval,
    job_ends::entry,
    storable,
};
use crate::{letter::Letter, queue::Hint, webhook_event::WebhookEvent};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Int2, Int4, Interval, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use uuid::Uuid;

/// Deliveries in a row that failed for good, after which a webhook is switched off.
const FAILURES: i32 = 20;

/// How exact the time of a webhook's last delivery is: many deliveries a second must not queue up for one row.
const LAST_DELIVERY: TimeDelta = TimeDelta::seconds(1);

/// One HTTP request of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// When.
    pub sent_at: DateTime<Utc>,
    /// Until the answer was there, or was given up, in milliseconds.
    pub latency_ms: i32,
    /// Of the answer, if there was one.
    pub status: Option<u16>,
    /// Why there was none, or why it does not count; for people.
    pub error: Option<String>,
    /// The beginning of its body.
    pub answer: Option<String>,
}

/// A delivery that ended, and its webhook as it was before.
#[derive(QueryableByName)]
struct Delivered {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    webhook_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Bool)]
    ordered: bool,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = BigInt)]
    first_open: i64,
    #[diesel(sql_type = Int4)]
    failures: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_delivery_at: Option<DateTime<Utc>>,
}

/// What the ends of its deliveries mean for one webhook.
#[derive(Default)]
struct Consequence {
    /// One was delivered: failures before it no longer count.
    delivered: bool,
    /// So many failed since.
    failed: i32,
    /// The receiver said that it is gone.
    gone: bool,
    /// Whether its row has to be written.
    matters: bool,
}

#[derive(QueryableByName)]
struct Disabled {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Text)]
    disabled_reason: String,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    organization_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    full_name: String,
}

impl Tried {
    /// As the result of a job, from which the end of the delivery is settled. It is not stored there.
    pub fn into_result(self) -> serde_json::Value {
        // numbers, texts and a time: nothing that JSON does not have
        serde_json::to_value(self).unwrap_or_default()
    }

    fn of(finish: &Finish) -> Option<Self> {
        let result = match &finish.ending {
            Ending::Completed(result) => result,
            Ending::Failed(_, result) => result.as_ref()?,
            Ending::Cancelled => return None,
        };
        serde_json::from_value(result.clone()).ok()
    }

    /// Lets a delivery wait for its next try, and records this one with it, if `attempt` still holds it. `None`: it does
    /// not, or somebody asked for its end.
    pub async fn try_again(
        &self,
        conn: &mut AsyncPgConnection,
        id: Uuid,
        attempt: i32,
        after: Duration,
        failure: &Failure,
    ) -> QueryResult<Option<Waiting>> {
        diesel::sql_query(
            "WITH waiting AS ( \
                 UPDATE jobs SET status = 'queued', run_at = now() + $3, errors = errors || $4, worker = NULL, \
                     heartbeat_at = NULL, updated_at = now() \
                 WHERE id = $1 AND attempt = $2 AND status = 'running' AND NOT cancel_requested \
                 RETURNING id, queue, priority, organization_id, weight, run_at \
             ), tried AS ( \
                 INSERT INTO webhook_attempts (delivery_id, attempt, sent_at, latency_ms, status, error, answer) \
                 SELECT d.id, $2, $5, $6, $7, $8, $9 FROM waiting JOIN webhook_deliveries d USING (id) \
                 ON CONFLICT DO NOTHING \
             ), noted AS ( \
                 UPDATE webhooks SET last_delivery_at = $5 \
                 FROM waiting JOIN webhook_deliveries d USING (id) \
                 WHERE webhooks.id = d.webhook_id \
                     AND (last_delivery_at IS NULL OR last_delivery_at < $5 - interval '1 second') \
             ) \
             SELECT * FROM waiting",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<Int4, _>(attempt)
        .bind::<Interval, _>(interval(after))
        .bind::<Jsonb, _>(entry(attempt, failure))
        .bind::<Timestamptz, _>(self.sent_at)
        .bind::<Int4, _>(self.latency_ms)
        .bind::<Nullable<Int2>, _>(self.stored_status())
        .bind::<Nullable<Text>, _>(self.error.as_deref().map(storable::text))
        .bind::<Nullable<Text>, _>(self.answer.as_deref().map(storable::text))
        .get_result(conn)
        .await
        .optional()
    }

    fn stored_status(&self) -> Option<i16> {
        self.status.and_then(|status| i16::try_from(status).ok())
    }
}

/// What the ends of deliveries mean: the last request is recorded, a webhook that is gone or keeps failing is switched off
/// and its owner told, and the next in line is woken.
pub(super) async fn settle(
    conn: &mut AsyncPgConnection,
    ended: &[&Finish],
    at: DateTime<Utc>,
) -> QueryResult<Vec<Hint>> {
    let tried: HashMap<Uuid, (i32, Tried)> =
        ended.iter().filter_map(|finish| Some((finish.id, (finish.attempt, Tried::of(finish)?)))).collect();
    let delivered = record(conn, ended, &tried).await?;
    let mut hints = Vec::new();

    let consequences = consequences(ended, &tried, &delivered, at);
    if !consequences.is_empty() {
        hints = note(conn, &consequences, at).await?;
    }
    let lines: BTreeMap<Uuid, Line> = delivered
        .iter()
        .filter(|delivery| delivery.ordered)
        .filter_map(|delivery| Some((delivery.webhook_id?, Line::noted(delivery.first_open.min(delivery.number)))))
        .collect();
    hints.extend(LineHead::find(conn, &lines).await?.iter().filter_map(LineHead::hint));
    Ok(hints)
}

/// Records the requests, in one statement, and reads whose deliveries they were.
async fn record(
    conn: &mut AsyncPgConnection,
    ended: &[&Finish],
    tried: &HashMap<Uuid, (i32, Tried)>,
) -> QueryResult<Vec<Delivered>> {
    let mut rows: Vec<_> = tried.iter().collect();
    rows.sort_by_key(|(id, _)| **id);
    let (ids, attempts): (Vec<_>, Vec<_>) = rows.iter().map(|(id, (attempt, _))| (**id, *attempt)).unzip();
    let tried = || rows.iter().map(|(_, (_, tried))| tried);
    diesel::sql_query(
        "WITH ended AS ( \
             SELECT d.id, d.webhook_id, d.event, d.number, COALESCE(w.ordered, FALSE) AS ordered, \
                 COALESCE(w.first_open, 0) AS first_open, COALESCE(w.failures, 0) AS failures, w.last_delivery_at \
             FROM webhook_deliveries d LEFT JOIN webhooks w ON w.id = d.webhook_id WHERE d.id = ANY($1) \
         ), tried AS ( \
             INSERT INTO webhook_attempts (delivery_id, attempt, sent_at, latency_ms, status, error, answer) \
             SELECT tried.* FROM UNNEST($2, $3, $4, $5, $6, $7, $8) \
                 AS tried (id, attempt, sent_at, latency_ms, status, error, answer) JOIN ended USING (id) \
             ON CONFLICT DO NOTHING \
         ) \
         SELECT * FROM ended ORDER BY number",
    )
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|finish| finish.id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Int4>, _>(attempts)
    .bind::<Array<Timestamptz>, _>(tried().map(|tried| tried.sent_at).collect::<Vec<_>>())
    .bind::<Array<Int4>, _>(tried().map(|tried| tried.latency_ms).collect::<Vec<_>>())
    .bind::<Array<Nullable<Int2>>, _>(tried().map(Tried::stored_status).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(tried().map(|t| t.error.as_deref().map(storable::text)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(tried().map(|t| t.answer.as_deref().map(storable::text)).collect::<Vec<_>>())
    .load(conn)
    .await
}

/// What is to be written about webhooks. In good times that is nothing but the time, now and then.
fn consequences(
    ended: &[&Finish],
    tried: &HashMap<Uuid, (i32, Tried)>,
    delivered: &[Delivered],
    at: DateTime<Utc>,
) -> BTreeMap<Uuid, Consequence> {
    let endings: HashMap<Uuid, &Ending> = ended.iter().map(|finish| (finish.id, &finish.ending)).collect();
    let mut consequences: BTreeMap<Uuid, Consequence> = BTreeMap::new();
    for delivery in delivered {
        // without a request nothing was found out about the receiver
        let (Some(webhook_id), Some((_, tried)), Some(ending)) =
            (delivery.webhook_id, tried.get(&delivery.id), endings.get(&delivery.id))
        else {
            continue;
        };
        let consequence = consequences.entry(webhook_id).or_default();
        consequence.matters |= delivery.last_delivery_at.is_none_or(|last| last < at - LAST_DELIVERY);
        match ending {
            Ending::Completed(_) => {
                consequence.matters |= delivery.failures > 0 || consequence.failed > 0;
                (consequence.delivered, consequence.failed) = (true, 0);
            }
            // a test that fails is what tests are for
            Ending::Failed(..) if delivery.event != WebhookEvent::Test.as_str() => {
                consequence.failed += 1;
                consequence.gone |= tried.status == Some(410);
                consequence.matters = true;
            }
            Ending::Failed(..) | Ending::Cancelled => {}
        }
    }
    consequences.retain(|_, consequence| consequence.matters);
    consequences
}

/// Writes what follows for webhooks, and mails to the owners of those that are switched off by it.
async fn note(
    conn: &mut AsyncPgConnection,
    consequences: &BTreeMap<Uuid, Consequence>,
    at: DateTime<Utc>,
) -> QueryResult<Vec<Hint>> {
    // locked in the order of their ids, as everybody does who locks several
    let disabled: Vec<Disabled> = diesel::sql_query(
        "WITH held AS ( \
             SELECT w.id, w.is_active, note.gone, \
                 CASE WHEN note.delivered THEN note.failed ELSE w.failures + note.failed END AS failures \
             FROM webhooks w JOIN UNNEST($1, $2, $3, $4) AS note (id, delivered, failed, gone) USING (id) \
             ORDER BY w.id FOR NO KEY UPDATE OF w \
         ), noted AS ( \
             UPDATE webhooks w SET last_delivery_at = GREATEST(w.last_delivery_at, $5), failures = held.failures, \
                 is_active = held.is_active AND NOT held.gone AND held.failures < $6, \
                 disabled_reason = CASE WHEN NOT held.is_active THEN w.disabled_reason WHEN held.gone THEN 'gone' \
                     WHEN held.failures >= $6 THEN 'failing' ELSE w.disabled_reason END \
             FROM held WHERE w.id = held.id \
             RETURNING w.id, w.name, w.url, w.disabled_reason, w.user_id, w.organization_id, \
                 held.is_active AND NOT w.is_active AS disabled \
         ) \
         SELECT noted.*, users.email, users.full_name FROM noted JOIN users ON users.id = noted.user_id WHERE disabled",
    )
    .bind::<Array<SqlUuid>, _>(consequences.keys().copied().collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(consequences.values().map(|note| note.delivered).collect::<Vec<_>>())
    .bind::<Array<Int4>, _>(consequences.values().map(|note| note.failed).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(consequences.values().map(|note| note.gone).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(at)
    .bind::<Int4, _>(FAILURES)
    .load(conn)
    .await?;
    if disabled.is_empty() {
        return Ok(Vec::new());
    }
    NewMail::insert(conn, disabled.into_iter().map(Disabled::letter).collect()).await
}

impl Disabled {
    fn letter(self) -> NewMail {
        let reason = match self.disabled_reason.as_str() {
            "gone" => "Its receiver answered that it is gone (410).".to_owned(),
            _ => format!("{FAILURES} deliveries in a row failed, each after its last try."),
        };
        let letter = Letter::WebhookDisabled {
            name: self.full_name,
            webhook_id: self.id,
            webhook: self.name,
            url: self.url,
            reason,
        };
        NewMail { user_id: self.user_id, organization_id: self.organization_id, to: self.email, letter }
    }
}
