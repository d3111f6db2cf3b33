//! What webhooks are told, and who of them: the deliveries that are written with the ends of jobs.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use harness::{Tenant, World};
use serde_json::{Value, json};
use shared::{models::Occurrence, webhook_event::WebhookEvent};
use uuid::Uuid;

#[derive(diesel::QueryableByName, Debug)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    webhook_id: Uuid,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Text)]
    body: String,
}

async fn webhook(world: &World, tenant: &Tenant, events: &[&str]) -> Uuid {
    let id = Uuid::now_v7();
    diesel::sql_query(
        "INSERT INTO webhooks (id, user_id, organization_id, name, url, events, secret) \
         VALUES ($1, $2, $3, 'test', 'https://example.com/', $4, 'secret')",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(tenant.user)
    .bind::<SqlUuid, _>(tenant.organization)
    .bind::<Array<Text>, _>(events)
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn try_it() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    diesel::sql_query("INSERT INTO memberships (organization_id, user_id, role) VALUES ($1, $2, 'admin')")
        .bind::<SqlUuid, _>(tenant.organization)
        .bind::<SqlUuid, _>(tenant.user)
        .execute(&mut world.conn().await)
        .await
        .unwrap();
    let hook = webhook(&world, &tenant, &["quota.warning", "execution.failed"]).await;
    let occurrence = |event| Occurrence {
        event,
        user_id: tenant.user,
        organization_id: tenant.organization,
        data: json!({ "a": 1 }),
    };
    let hints = Occurrence::announce(
        &mut *world.conn().await,
        &[
            occurrence(WebhookEvent::QuotaWarning),
            occurrence(WebhookEvent::ExecutionFailed),
            occurrence(WebhookEvent::JobFailed),
        ],
    )
    .await
    .unwrap();
    assert_eq!(hints.len(), 2);
    let rows: Vec<Row> = diesel::sql_query("SELECT * FROM webhook_deliveries ORDER BY number")
        .load(&mut world.conn().await)
        .await
        .unwrap();
    for row in &rows {
        println!("{row:?}");
        assert_eq!(row.webhook_id, hook);
        let body: Value = serde_json::from_str(&row.body).unwrap();
        assert_eq!(body["event"], row.event);
        assert_eq!(body["id"], json!(row.id));
    }
    diesel::sql_query("DELETE FROM jobs").execute(&mut world.conn().await).await.unwrap();
}
