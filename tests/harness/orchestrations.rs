//! Projects and templates in a test's world, written straight into the tables, and what becomes of orchestrations.

use crate::{LlmPeer, Member, World, eventually};
use diesel::sql_types::{Jsonb, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use shared::models::{Job, JobStatus};
use uuid::Uuid;

impl World {
    /// A project of a member's own organization.
    pub async fn project(&self, of: &Member, topic: &str, metadata: Value) -> Uuid {
        self.project_in(of.organization_id(), of.id(), topic, metadata).await
    }

    /// A project of this organization, made by this user.
    pub async fn project_in(&self, organization: Uuid, user: Uuid, topic: &str, metadata: Value) -> Uuid {
        let id = Uuid::now_v7();
        diesel::sql_query(
            "INSERT INTO projects (id, organization_id, created_by, name, description, topic, metadata) \
             VALUES ($1, $2, $3, 'Lamps', 'Light for all', $4, $5)",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(organization)
        .bind::<SqlUuid, _>(user)
        .bind::<Text, _>(topic)
        .bind::<Jsonb, _>(metadata)
        .execute(&mut self.conn().await)
        .await
        .unwrap();
        id
    }

    /// A template of a member's own organization that nobody else sees.
    pub async fn template(&self, of: &Member, data: Value) -> Uuid {
        let id = Uuid::now_v7();
        diesel::sql_query(
            "INSERT INTO templates (id, organization_id, created_by, name, template_data) VALUES ($1, $2, $3, 'Mine', $4)",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(of.organization_id())
        .bind::<SqlUuid, _>(of.id())
        .bind::<Jsonb, _>(data)
        .execute(&mut self.conn().await)
        .await
        .unwrap();
        id
    }

    /// Waits until a job has ended in whatever way.
    pub async fn ended(&self, id: Uuid) -> Job {
        eventually(&format!("job {id} to end"), async || {
            let job = self.job(id).await;
            job.status.is_final().then_some(job)
        })
        .await
    }

    /// Ends what waits and that no worker of the test was to do: deliveries and mails.
    pub async fn discard_deliveries(&self) {
        self.run_sql("DELETE FROM jobs WHERE kind IN ('webhook_delivery', 'mail')").await;
    }
}

impl Member {
    /// Starts an orchestration; returns its id and the whole answer.
    pub async fn orchestrate(&self, body: Value) -> (Uuid, Value) {
        let answer = self.client.post("/orchestrate", body).await.expect(201);
        (answer["run_id"].as_str().unwrap().parse().unwrap(), answer)
    }

    /// An orchestration as its organization sees it.
    pub async fn orchestration(&self, id: Uuid) -> Value {
        self.client.get(&format!("/orchestration/{id}")).await.expect(200)
    }

    /// Starts an orchestration, and waits for its good end.
    pub async fn orchestrated(&self, world: &World, body: Value) -> (Uuid, Value) {
        let (id, _) = self.orchestrate(body).await;
        let job = world.ended(id).await;
        assert_eq!(job.status, JobStatus::Completed, "{:?}", job.error_message);
        (id, self.orchestration(id).await)
    }
}

impl LlmPeer {
    /// How often it was asked for this phase. Prompts repeat the answers of earlier phases, which repeat their prompts; the
    /// last place counts.
    pub fn asked_for_phase(&self, phase: usize) -> usize {
        let wanted = format!("Phase {phase}:");
        let calls = self.calls();
        let last = calls.iter().filter_map(|call| call.prompt.rsplit("Current phase: ").next());
        last.filter(|rest| rest.starts_with(&wanted)).count()
    }
}
