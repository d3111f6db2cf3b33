//! Which ends of jobs somebody is written about, and how often.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Jsonb, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use harness::{Tenant, World};
use serde_json::{Value, json};
use shared::{
    kind::{ImageAnalysis, JobType, Payload},
    models::{Ending, Execution, Failure, Finish, Job, NewExecution, NewJob},
};
use uuid::Uuid;

#[derive(Debug, QueryableByName)]
struct Written {
    #[diesel(sql_type = Text)]
    recipient: String,
    #[diesel(sql_type = Jsonb)]
    letter: Value,
}

/// The notices written about jobs of this user, in their order.
async fn written(world: &World, tenant: &Tenant) -> Vec<Written> {
    diesel::sql_query(
        "SELECT recipient, payload -> 'letter' AS letter FROM mails JOIN jobs USING (id) \
         WHERE mails.user_id = $1 AND template = 'job_ended' AND notice ORDER BY id",
    )
    .bind::<SqlUuid, _>(tenant.user)
    .load(&mut world.conn().await)
    .await
    .unwrap()
}

async fn run(world: &World, tenant: &Tenant, awaited: bool, tick: Option<(Uuid, DateTime<Utc>)>) -> Uuid {
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: tenant.user,
        organization_id: tenant.organization,
        weight: 1,
        pipeline_id: Uuid::now_v7(),
        pipeline_name: "Countries".to_owned(),
        nodes: json!([{ "id": "in", "type": "input", "config": {} }]),
        connections: json!([]),
        inputs: json!({ "in": "x" }),
        webhook_url: None,
        webhook_secret: None,
        awaited,
        retry_of: None,
        tick,
        cost_limit_nanos: None,
        token_limit: None,
    };
    Execution::start(&mut *world.conn().await, new).await.unwrap().job.id
}

/// A job over three images that is running, and ends.
async fn analyse(world: &World, tenant: &Tenant, job_type: JobType, ending: Ending) {
    let payload = Payload::ImageAnalysis(ImageAnalysis { job_type, product_id: Uuid::now_v7() });
    let job = NewJob { items_total: 3, ..NewJob::new(tenant.user, tenant.organization, 1, payload) };
    world.insert(&job).await;
    let mut conn = world.conn().await;
    let Job { id, kind, attempt, .. } = Job::claim(&mut conn, &[job.id], "hand", 5).await.unwrap().pop().unwrap();
    let ended = Job::finish(&mut conn, &[Finish { id, kind, attempt, ending }]).await.unwrap();
    assert_eq!(ended.events.len(), 1);
}

fn failed() -> Ending {
    Ending::Failed(Failure { code: "x".to_owned(), message: "No image could be read.".to_owned() }, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_runs_and_batches_are_written_about() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    world.take(run(&world, &tenant, false, None).await).await.complete().await;
    world.take(run(&world, &tenant, false, None).await).await.fail("in", "boom", "It\0broke.").await;
    analyse(&world, &tenant, JobType::Batch, Ending::Completed(json!({}))).await;
    analyse(&world, &tenant, JobType::Batch, failed()).await;
    let written = written(&world, &tenant).await;
    let told: Vec<_> = written
        .iter()
        .map(|written| {
            assert_eq!(written.recipient, format!("{}@example.com", tenant.user));
            assert!(written.letter["duration_ms"].as_i64().unwrap() >= 0);
            (written.letter["what"].as_str().unwrap(), written.letter["error"].as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("Pipeline \"Countries\"", None),
            ("Pipeline \"Countries\"", Some("It\u{fffd}broke.")),
            ("Batch of 3 images", None),
            ("Batch of 3 images", Some("No image could be read."))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_waits_for_or_stopped_or_a_schedule_did_well_is_no_news() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let tick = || Some((Uuid::now_v7(), Utc::now()));
    world.take(run(&world, &tenant, true, None).await).await.complete().await;
    world.take(run(&world, &tenant, true, None).await).await.fail("in", "boom", "It broke.").await;
    world.take(run(&world, &tenant, false, None).await).await.stop().await;
    world.take(run(&world, &tenant, false, tick()).await).await.complete().await;
    for job_type in [JobType::Single, JobType::Retry] {
        analyse(&world, &tenant, job_type, failed()).await;
    }
    assert_eq!(written(&world, &tenant).await.len(), 0);
    world.take(run(&world, &tenant, false, tick()).await).await.fail("in", "boom", "It broke.").await;
    assert_eq!(written(&world, &tenant).await.len(), 1, "a schedule that fails is");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_to_be_written_to_is_not() {
    let world = World::new().await;
    for state in ["preferences = '{\"notifications\": {\"email\": false}}'", "is_active = false"] {
        let tenant = world.tenant(1).await;
        let set = format!("UPDATE users SET {state} WHERE id = '{}'", tenant.user);
        world.run_sql(&set).await;
        world.take(run(&world, &tenant, false, None).await).await.complete().await;
        assert_eq!(written(&world, &tenant).await.len(), 0, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_notices_an_hour_are_enough_also_when_all_end_at_once() {
    let world = World::new().await;
    let (tenant, other) = (world.tenant(1).await, world.tenant(1).await);
    let mut hands = Vec::new();
    for _ in 0..25 {
        hands.push(world.take(run(&world, &tenant, false, None).await).await);
    }
    join_all(hands.into_iter().map(harness::Hand::complete)).await;
    let letters = written(&world, &tenant).await;
    assert_eq!(letters.len(), 20);
    let last = letters.iter().filter(|written| written.letter["last_for_now"] == true).count();
    assert_eq!(last, 1, "one of them says that it is the last");
    world.take(run(&world, &other, false, None).await).await.complete().await;
    assert_eq!(written(&world, &other).await.len(), 1, "others are not concerned");
    world.run_sql("UPDATE mails SET created_at = now() - interval '61 minutes'").await;
    world.take(run(&world, &tenant, false, None).await).await.complete().await;
    assert_eq!(written(&world, &tenant).await.len(), 21, "an hour later there is room again");
}
