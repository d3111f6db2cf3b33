//! What workers read of webhook deliveries: where they lead, to decide which may be sent; then all that is sent. And the
//! line that deliveries of an ordered webhook stand in.

use super::{JobStatus, Waiting};
use crate::{kind::Kind, queue::Hint, webhook_event::WebhookEvent};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};
use uuid::Uuid;

/// How far the note of a line's head may lag behind before it is written again.
const LAG: i64 = 50;

/// Where a waiting delivery leads.
#[derive(Debug, Clone, QueryableByName)]
pub struct DeliveryPlace {
    /// The delivery.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The webhook it is for.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub webhook_id: Option<Uuid>,
    /// The address of a call back.
    #[diesel(sql_type = Nullable<Text>)]
    pub callback_url: Option<String>,
    /// Its place among all deliveries.
    #[diesel(sql_type = BigInt)]
    pub number: i64,
    /// The webhook gets one delivery at a time.
    #[diesel(sql_type = Bool)]
    pub ordered: bool,
    /// Nothing will be sent, since the webhook is inactive.
    #[diesel(sql_type = Bool)]
    pub unwanted: bool,
    /// The tenant whose turn it uses.
    #[diesel(sql_type = SqlUuid)]
    pub organization_id: Uuid,
    /// The tenant's share.
    #[diesel(sql_type = SmallInt)]
    pub weight: i16,
    #[diesel(sql_type = BigInt)]
    first_open: i64,
}

/// The delivery that is next in the line of an ordered webhook.
#[derive(Debug, Clone, QueryableByName)]
pub struct LineHead {
    /// Whose line it is.
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: Uuid,
    /// The delivery.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    status: JobStatus,
    #[diesel(sql_type = SqlUuid)]
    organization_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    weight: i16,
    #[diesel(sql_type = Timestamptz)]
    run_at: DateTime<Utc>,
}

/// All that is sent, and how it is signed. Does not print its secrets.
#[derive(Clone, QueryableByName)]
pub struct Delivery {
    /// The delivery.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The webhook it is for; none: a call back of a run.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub webhook_id: Option<Uuid>,
    /// What it tells of.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// The bytes that are sent and signed.
    #[diesel(sql_type = Text)]
    pub body: String,
    /// Where to.
    #[diesel(sql_type = Nullable<Text>)]
    pub url: Option<String>,
    /// What it is signed with; call backs may have none.
    #[diesel(sql_type = Nullable<Text>)]
    pub secret: Option<String>,
    /// The secret before, as long as it signs as well.
    #[diesel(sql_type = Nullable<Text>)]
    pub previous_secret: Option<String>,
    /// The webhook is active.
    #[diesel(sql_type = Bool)]
    pub is_active: bool,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("id", &self.id).field("webhook_id", &self.webhook_id).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Loads those of `ids` that are there, by id. One that is missing went with its webhook.
    pub async fn load(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Self>> {
        let found: Vec<Self> = diesel::sql_query(
            "SELECT d.id, d.webhook_id, d.event, d.body, COALESCE(w.url, e.webhook_url) AS url, \
                 COALESCE(w.secret, e.webhook_secret) AS secret, COALESCE(w.is_active, TRUE) AS is_active, \
                 CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END AS previous_secret \
             FROM webhook_deliveries d LEFT JOIN webhooks w ON w.id = d.webhook_id \
                 LEFT JOIN executions e ON e.id = d.execution_id \
             WHERE d.id = ANY($1)",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .load(conn)
        .await?;
        Ok(found.into_iter().map(|delivery| (delivery.id, delivery)).collect())
    }

    /// Whether it is to be sent at all. A test is sent to an inactive webhook, too.
    pub fn is_wanted(&self) -> bool {
        self.is_active || self.event == WebhookEvent::Test.as_str()
    }
}

impl DeliveryPlace {
    /// Where those of `ids` lead that are there and wait.
    pub async fn list(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "SELECT d.id, d.webhook_id, e.webhook_url AS callback_url, d.number, \
                 COALESCE(w.ordered, FALSE) AS ordered, COALESCE(w.first_open, 0) AS first_open, \
                 COALESCE(NOT w.is_active AND d.event <> $2, FALSE) AS unwanted, jobs.organization_id, jobs.weight \
             FROM webhook_deliveries d JOIN jobs ON jobs.id = d.id LEFT JOIN webhooks w ON w.id = d.webhook_id \
                 LEFT JOIN executions e ON e.id = d.execution_id \
             WHERE d.id = ANY($1) AND jobs.status = 'queued' ORDER BY d.number",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(WebhookEvent::Test)
        .load(conn)
        .await
    }

    /// The heads of the lines that any of these stand in.
    pub async fn heads(conn: &mut AsyncPgConnection, places: &[Self]) -> QueryResult<Vec<LineHead>> {
        let mut lines = BTreeMap::new();
        for place in places.iter().filter(|place| place.ordered) {
            if let Some(webhook_id) = place.webhook_id {
                let line: &mut Line = lines.entry(webhook_id).or_insert(Line::noted(place.first_open));
                // one that was opened again may stand before all that were open
                line.from = line.from.min(place.number);
            }
        }
        LineHead::find(conn, &lines).await
    }
}

/// Where the head of a line is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// As the row of the webhook has it.
    noted: i64,
    from: i64,
}

impl Line {
    pub(super) const fn noted(noted: i64) -> Self {
        Self { noted, from: noted }
    }
}

impl LineHead {
    /// Finds the first open delivery of each of these webhooks, and notes where it was if that is far from what was noted.
    pub(super) async fn find(conn: &mut AsyncPgConnection, lines: &BTreeMap<Uuid, Line>) -> QueryResult<Vec<Self>> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let heads: Vec<Self> = diesel::sql_query(
            "SELECT line.webhook_id, head.* FROM UNNEST($1, $2) AS line (webhook_id, number) CROSS JOIN LATERAL ( \
                 SELECT d.id, d.number, jobs.status, jobs.organization_id, jobs.weight, jobs.run_at \
                 FROM webhook_deliveries d JOIN jobs ON jobs.id = d.id \
                 WHERE d.webhook_id = line.webhook_id AND d.number >= line.number \
                     AND jobs.status IN ('queued', 'running') \
                 ORDER BY d.number LIMIT 1 \
             ) AS head",
        )
        .bind::<Array<SqlUuid>, _>(lines.keys().copied().collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(lines.values().map(|line| line.from).collect::<Vec<_>>())
        .load(conn)
        .await?;
        let is_off = |head: &&Self| {
            lines.get(&head.webhook_id).is_some_and(|line| !(line.noted..=line.noted + LAG).contains(&head.number))
        };
        // in the order of the keys, as everybody does who locks several
        let mut off: Vec<_> = heads.iter().filter(is_off).collect();
        off.sort_by_key(|head| head.webhook_id);
        for head in off {
            diesel::sql_query("UPDATE webhooks SET first_open = $2 WHERE id = $1 AND ordered")
                .bind::<SqlUuid, _>(head.webhook_id)
                .bind::<BigInt, _>(head.number)
                .execute(conn)
                .await?;
        }
        Ok(heads)
    }

    /// What Redis is told, if it waits.
    pub fn hint(&self) -> Option<Hint> {
        let kind = Kind::WebhookDelivery;
        let waiting = Waiting {
            id: self.id,
            queue: kind.queue().to_owned(),
            priority: crate::kind::Priority::Default,
            organization_id: self.organization_id,
            weight: self.weight,
            run_at: self.run_at,
        };
        (self.status == JobStatus::Queued).then(|| Hint { queue: kind.queue(), ticket: waiting.ticket() })
    }
}
