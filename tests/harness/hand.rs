//! A worker's part in an execution, played by hand: each step when the test wants it.

use crate::{World, eventually};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Jsonb, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use shared::{
    events::{self, Change, Event, EventBody, LogLevel, Progress},
    models::{Ending, Execution, Failure, Finish, Job, JobStep, StepChange, StepKey, StepStatus},
};
use uuid::Uuid;

/// Holds one execution as a worker does.
pub struct Hand<'a> {
    world: &'a World,
    /// The job as it was claimed.
    pub job: Job,
    nodes: Vec<String>,
    ended: u32,
}

impl World {
    /// Takes a waiting execution, and says that it has started.
    pub async fn take(&self, id: Uuid) -> Hand<'_> {
        self.queue("pipelines").remove(&[id]).await.unwrap();
        let mut conn = self.conn().await;
        let job = Job::claim(&mut conn, &[id], "hand", 5).await.unwrap().pop().expect("it waits");
        let execution = Execution::get(&mut conn, id).await.unwrap();
        drop(conn);
        let nodes = execution.nodes.as_array().unwrap();
        let nodes = nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
        let hand = Hand { world: self, job, nodes, ended: 0 };
        hand.say(Change::JobStarted).await;
        hand
    }

    /// Waits until an execution of this organization waits, and takes it.
    pub async fn take_next(&self, organization_id: Uuid) -> Hand<'_> {
        let id = eventually("an execution to wait", async || {
            let found: Vec<Waits> = diesel::sql_query(
                "SELECT id FROM jobs WHERE kind = 'pipeline_run' AND status = 'queued' AND organization_id = $1",
            )
            .bind::<SqlUuid, _>(organization_id)
            .load(&mut self.conn().await)
            .await
            .unwrap();
            found.into_iter().next().map(|found| found.id)
        })
        .await;
        self.take(id).await
    }
}

#[derive(diesel::QueryableByName)]
struct Waits {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

impl Hand<'_> {
    fn progress(&self) -> Progress {
        Progress { completed: self.ended, total: u32::try_from(self.nodes.len()).unwrap() }
    }

    /// Stores an event that changes no step, and publishes it.
    async fn say(&self, change: Change) {
        let body = EventBody { change, progress: self.progress(), at: Utc::now() };
        diesel::sql_query(
            "WITH job AS (UPDATE jobs SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq) \
             INSERT INTO job_events (job_id, seq, body) SELECT $1, last_seq, $2 FROM job",
        )
        .bind::<SqlUuid, _>(self.job.id)
        .bind::<Jsonb, _>(serde_json::to_value(&body).unwrap())
        .execute(&mut self.world.conn().await)
        .await
        .unwrap();
        let seq = self.world.job(self.job.id).await.last_seq;
        self.publish(&[Event { job_id: self.job.id, seq, body }]).await;
    }

    async fn publish(&self, stored: &[Event]) {
        let mut redis = self.world.redis.clone();
        // as from a worker: whoever misses it finds it in the table
        let _ = events::announcement(&self.world.prefix, stored).query_async::<()>(&mut redis).await;
    }

    /// Says something about a node.
    pub async fn log(&self, node: &str, message: &str) {
        let (step, message) = (Some(node.to_owned()), message.to_owned());
        self.say(Change::Log { level: LogLevel::Warn, step, message }).await;
    }

    /// Writes where a node stands, with what it found.
    pub async fn node(&mut self, node: &str, status: StepStatus, result: Value) {
        self.ended += u32::from(status.is_final());
        let position = i16::try_from(self.nodes.iter().position(|id| id == node).unwrap()).unwrap();
        let message = result["error_message"].as_str().map(ToOwned::to_owned);
        let change = StepChange {
            key: StepKey { item: Uuid::nil(), name: node, position },
            status,
            started_at: Utc::now(),
            error_message: message,
            result,
            told: Some(json!({})),
            progress: self.progress(),
        };
        let mut conn = self.world.conn().await;
        let event = JobStep::record(&mut conn, self.job.id, self.job.attempt, &change).await.unwrap();
        if status == StepStatus::Completed {
            Execution::count_node(&mut conn, self.job.id, 7, 1_500_000).await.unwrap();
        }
        if status == StepStatus::Failed {
            Execution::set_error_node(&mut conn, self.job.id, node).await.unwrap();
        }
        drop(conn);
        self.publish(&event.into_iter().collect::<Vec<_>>()).await;
    }

    /// A node that starts and ends well, with this text.
    pub async fn completes(&mut self, node: &str, text: &str) {
        self.node(node, StepStatus::Running, json!({})).await;
        let metadata = json!({ "model": "gpt-4", "tokens_used": 7, "cost": 0.0015 });
        self.node(node, StepStatus::Completed, json!({ "text": text, "metadata": metadata })).await;
    }

    /// Ends the execution well.
    pub async fn complete(self) -> DateTime<Utc> {
        self.end(Ending::Completed(json!({}))).await
    }

    /// Fails a node, and the execution with it.
    pub async fn fail(mut self, node: &str, code: &str, message: &str) -> DateTime<Utc> {
        self.node(node, StepStatus::Failed, json!({ "error_message": message })).await;
        let failure = Failure { code: code.to_owned(), message: message.to_owned() };
        self.end(Ending::Failed(failure, Some(json!({ "node_id": node })))).await
    }

    /// Ends the execution because that was asked for.
    pub async fn stop(self) -> DateTime<Utc> {
        self.end(Ending::Cancelled).await
    }

    async fn end(self, ending: Ending) -> DateTime<Utc> {
        let Job { id, kind, attempt, .. } = self.job;
        let finish = Finish { id, kind, attempt, ending };
        let ended = Job::finish(&mut *self.world.conn().await, &[finish]).await.unwrap().events;
        self.publish(&ended).await;
        ended[0].body.at
    }
}
