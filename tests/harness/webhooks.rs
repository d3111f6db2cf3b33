//! Webhooks and deliveries in a test's world, written straight into the tables.

use crate::{Tenant, World, eventually};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Int2, Int4, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::json;
use shared::{
    kind::Kind,
    models::{Job, JobStatus},
    queue::{Hint, Priority, Ticket},
};
use uuid::Uuid;

/// Rows in one statement.
const PAGE: usize = 5_000;

/// A webhook of a test.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: Tenant,
    /// What its deliveries are signed with.
    pub secret: String,
}

/// A webhook as it is now.
#[derive(Debug, Clone, QueryableByName)]
pub struct HookRow {
    /// It gets deliveries.
    #[diesel(sql_type = Bool)]
    pub is_active: bool,
    /// Why it was switched off.
    #[diesel(sql_type = Nullable<Text>)]
    pub disabled_reason: Option<String>,
    /// Deliveries in a row that failed for good.
    #[diesel(sql_type = Int4)]
    pub failures: i32,
    /// The last delivery.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_delivery_at: Option<DateTime<Utc>>,
}

/// One recorded request of a delivery.
#[derive(Debug, Clone, QueryableByName)]
pub struct TriedRow {
    /// The attempt of the job.
    #[diesel(sql_type = Int4)]
    pub attempt: i32,
    /// Until the answer was there, in milliseconds.
    #[diesel(sql_type = Int4)]
    pub latency_ms: i32,
    /// Of the answer.
    #[diesel(sql_type = Nullable<Int2>)]
    pub status: Option<i16>,
    /// Why it does not count.
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
    /// The beginning of the answer.
    #[diesel(sql_type = Nullable<Text>)]
    pub answer: Option<String>,
}

#[derive(QueryableByName)]
struct Letter {
    #[diesel(sql_type = Jsonb)]
    letter: serde_json::Value,
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

impl World {
    /// A webhook that leads to `url`.
    pub async fn hook(&self, tenant: &Tenant, url: &str) -> Hook {
        let (id, secret) = (Uuid::now_v7(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        diesel::sql_query(
            "INSERT INTO webhooks (id, user_id, organization_id, name, url, events, secret) \
             VALUES ($1, $2, $3, 'Test', $4, '{job.completed}', $5)",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(tenant.user)
        .bind::<SqlUuid, _>(tenant.organization)
        .bind::<Text, _>(url)
        .bind::<Text, _>(&secret)
        .execute(&mut self.conn().await)
        .await
        .unwrap();
        Hook { id, tenant: tenant.clone(), secret }
    }

    /// Changes the row of a webhook: `is_active = FALSE`.
    pub async fn change_hook(&self, hook: &Hook, change: &str) {
        diesel::sql_query(format!("UPDATE webhooks SET {change} WHERE id = $1"))
            .bind::<SqlUuid, _>(hook.id)
            .execute(&mut self.conn().await)
            .await
            .unwrap();
    }

    /// A webhook as it is now.
    pub async fn hook_row(&self, hook: &Hook) -> HookRow {
        diesel::sql_query("SELECT is_active, disabled_reason, failures, last_delivery_at FROM webhooks WHERE id = $1")
            .bind::<SqlUuid, _>(hook.id)
            .get_result(&mut self.conn().await)
            .await
            .unwrap()
    }

    /// Accepts deliveries of an event: rows, then a push.
    pub async fn deliver(&self, hook: &Hook, count: usize) -> Vec<Uuid> {
        let ids = self.insert_deliveries(hook, "job.completed", count).await;
        self.hint_deliveries(&hook.tenant, &ids).await;
        ids
    }

    /// Commits deliveries without telling Redis, many in a statement.
    pub async fn insert_deliveries(&self, hook: &Hook, event: &str, count: usize) -> Vec<Uuid> {
        let ids: Vec<_> = std::iter::repeat_with(Uuid::now_v7).take(count).collect();
        let mut conn = self.conn().await;
        for page in ids.chunks(PAGE) {
            conn.transaction(async |conn| {
                insert_jobs(conn, &hook.tenant, page).await?;
                diesel::sql_query(
                    "INSERT INTO webhook_deliveries (id, webhook_id, event, body) \
                     SELECT new.id, $2, $3, '{\"id\": \"' || new.id || '\", \"event\": \"' || $3 || \
                         '\", \"data\": {\"number\": ' || new.place || ', \"text\": \"grün ☃\"}}' \
                     FROM UNNEST($1) WITH ORDINALITY AS new (id, place) ORDER BY new.place",
                )
                .bind::<Array<SqlUuid>, _>(page)
                .bind::<SqlUuid, _>(hook.id)
                .bind::<Text, _>(event)
                .execute(conn)
                .await
            })
            .await
            .unwrap();
        }
        ids
    }

    /// Commits the call back of a run without telling Redis.
    pub async fn insert_call_back(&self, tenant: &Tenant, url: &str, secret: Option<&str>) -> Uuid {
        let (id, run) = (Uuid::now_v7(), Uuid::now_v7());
        let mut conn = self.conn().await;
        diesel::sql_query(
            "WITH job AS (INSERT INTO jobs (id, kind, queue, status, organization_id, user_id, payload, max_attempts) \
                 VALUES ($1, 'pipeline_run', 'pipelines', 'completed', $2, $3, '{}', 1)) \
             INSERT INTO executions (id, organization_id, user_id, pipeline_id, pipeline_name, nodes, connections, \
                 webhook_url, webhook_secret) VALUES ($1, $2, $3, $1, 'Test', '[]', '[]', $4, $5)",
        )
        .bind::<SqlUuid, _>(run)
        .bind::<SqlUuid, _>(tenant.organization)
        .bind::<SqlUuid, _>(tenant.user)
        .bind::<Text, _>(url)
        .bind::<Nullable<Text>, _>(secret)
        .execute(&mut conn)
        .await
        .unwrap();
        insert_jobs(&mut conn, tenant, &[id]).await.unwrap();
        diesel::sql_query(
            "INSERT INTO webhook_deliveries (id, execution_id, event, body) VALUES ($1, $2, 'execution.completed', '{}')",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(run)
        .execute(&mut conn)
        .await
        .unwrap();
        id
    }

    /// Tells Redis of deliveries.
    pub async fn hint_deliveries(&self, tenant: &Tenant, ids: &[Uuid]) {
        let hint = |id: &Uuid| Hint {
            queue: Kind::WebhookDelivery.queue(),
            ticket: Ticket {
                id: *id,
                tenant: tenant.organization,
                weight: tenant.weight,
                priority: Priority::Default,
                run_at: None,
            },
        };
        let hints: Vec<_> = ids.iter().map(hint).collect();
        Hint::push(&hints, &self.redis, &self.prefix).await.unwrap();
    }

    /// The recorded requests of a delivery, in order.
    pub async fn tries(&self, id: Uuid) -> Vec<TriedRow> {
        diesel::sql_query(
            "SELECT attempt, latency_ms, status, error, answer FROM webhook_attempts WHERE delivery_id = $1 \
             ORDER BY attempt",
        )
        .bind::<SqlUuid, _>(id)
        .load(&mut self.conn().await)
        .await
        .unwrap()
    }

    /// How many requests are recorded of these deliveries.
    pub async fn count_tries(&self, ids: &[Uuid]) -> usize {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            count: i64,
        }
        let Count { count } = diesel::sql_query("SELECT count(*) FROM webhook_attempts WHERE delivery_id = ANY($1)")
            .bind::<Array<SqlUuid>, _>(ids)
            .get_result(&mut self.conn().await)
            .await
            .unwrap();
        usize::try_from(count).unwrap()
    }

    /// Waits until a delivery has ended, and returns its job.
    pub async fn delivered(&self, id: Uuid) -> Job {
        eventually(&format!("delivery {id} to end"), async || {
            let job = self.job(id).await;
            job.status.is_final().then_some(job)
        })
        .await
    }

    /// Waits until all of these deliveries were taken.
    pub async fn all_delivered(&self, ids: &[Uuid]) {
        self.wait_for_count(ids, JobStatus::Completed, ids.len()).await;
    }

    /// The letters that wait to be sent, which are deleted, since no test's worker sends them.
    pub async fn take_letters(&self) -> Vec<serde_json::Value> {
        let letters: Vec<Letter> =
            diesel::sql_query("DELETE FROM jobs WHERE kind = 'mail' RETURNING payload -> 'letter' AS letter")
                .load(&mut self.conn().await)
                .await
                .unwrap();
        letters.into_iter().map(|letter| letter.letter).collect()
    }

    /// Deletes deliveries that a test has no more use for, so that none is left waiting.
    pub async fn forget_deliveries(&self, ids: &[Uuid]) {
        let gone: Vec<Known> = diesel::sql_query("DELETE FROM jobs WHERE id = ANY($1) RETURNING id")
            .bind::<Array<SqlUuid>, _>(ids)
            .load(&mut self.conn().await)
            .await
            .unwrap();
        let gone: Vec<_> = gone.iter().map(|known| known.id).collect();
        self.queue(Kind::WebhookDelivery.queue()).remove(&gone).await.unwrap();
    }
}

async fn insert_jobs(conn: &mut diesel_async::AsyncPgConnection, tenant: &Tenant, ids: &[Uuid]) -> QueryResult<usize> {
    let kind = Kind::WebhookDelivery;
    diesel::sql_query(
        "INSERT INTO jobs (id, kind, queue, organization_id, weight, user_id, payload, max_attempts) \
         SELECT id, $2, $3, $4, $5, $6, $7, 100 FROM UNNEST($1) AS new (id)",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Text, _>(kind)
    .bind::<Text, _>(kind.queue())
    .bind::<SqlUuid, _>(tenant.organization)
    .bind::<Int2, _>(tenant.weight.cast_signed())
    .bind::<SqlUuid, _>(tenant.user)
    .bind::<Jsonb, _>(json!({ "kind": kind }))
    .execute(conn)
    .await
}
