//! What webhooks are told, and who of them: the deliveries that are written with the ends of jobs.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use crate::pipeline_runs::{edge, node};
use chrono::DateTime;
use diesel::sql_types::{Array, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use harness::{Process, Tenant, World, eventually};
use serde_json::{Value, json};
use shared::{
    kind::{ChatCompletion, Endpoint, ImageAnalysis, JobType, Kind, Payload},
    models::{Ended, Ending, Execution, Failure, Finish, Job, JobStatus, NewExecution, NewJob, Occurrence},
    pipeline::normalized,
    webhook_event::WebhookEvent,
};
use uuid::Uuid;

/// A delivery as it is stored.
#[derive(diesel::QueryableByName, Debug)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    webhook_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    execution_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Text)]
    body: String,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
}

/// Somebody who is a member of an organization.
async fn member(world: &World, organization: Option<Uuid>) -> Tenant {
    let tenant = world.tenant(1).await;
    let tenant = Tenant { organization: organization.unwrap_or(tenant.organization), ..tenant };
    world
        .run_sql(&format!(
            "INSERT INTO memberships (organization_id, user_id, role) VALUES ('{}', '{}', 'member')",
            tenant.organization, tenant.user
        ))
        .await;
    tenant
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

/// Everything there is to subscribe to.
fn all_events() -> Vec<&'static str> {
    WebhookEvent::ALL.iter().filter(|event| event.is_subscribable()).map(|event| event.as_str()).collect()
}

/// All deliveries, in the order in which they were written.
async fn deliveries(world: &World) -> Vec<Row> {
    let rows = diesel::sql_query(
        "SELECT d.id, webhook_id, execution_id, event, body, user_id, status \
         FROM webhook_deliveries d JOIN jobs j ON j.id = d.id AND j.kind = 'webhook_delivery' ORDER BY number",
    );
    rows.load(&mut world.conn().await).await.unwrap()
}

/// Nobody sends them here, and a test leaves nothing waiting.
async fn clear(world: &World) {
    world.run_sql("DELETE FROM jobs WHERE kind IN ('webhook_delivery', 'mail')").await;
}

/// What the only delivery says; its id and time are checked and taken out.
async fn told(world: &World, event: &str) -> Value {
    let rows = deliveries(world).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((row.event.as_str(), row.status.as_str()), (event, "queued"));
    let mut body: Value = serde_json::from_str(&row.body).unwrap();
    assert_eq!(body["id"], json!(row.id));
    assert_eq!(body["event"], event);
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    let mut data = body["data"].take();
    let timestamp = data.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().ends_with('Z'));
    DateTime::parse_from_rfc3339(timestamp.as_str().unwrap()).unwrap();
    clear(world).await;
    data
}

fn question() -> Payload {
    Payload::ChatCompletion(ChatCompletion {
        endpoint: Endpoint::AiChat,
        model: "gpt-4".to_owned(),
        messages: Vec::new(),
        max_tokens: 1,
        temperature: 0.0,
        top_p: 1.0,
        stream: false,
    })
}

/// Jobs in their first attempt.
async fn running(world: &World, tenant: &Tenant, payload: &Payload, number: usize) -> Vec<Uuid> {
    let jobs: Vec<_> = (0..number)
        .map(|_| NewJob {
            items_total: 3,
            ..NewJob::new(tenant.user, tenant.organization, tenant.weight, payload.clone())
        })
        .collect();
    Job::insert_all(&mut *world.conn().await, &jobs).await.unwrap();
    begin(world).await;
    jobs.iter().map(|job| job.id).collect()
}

async fn begin(world: &World) {
    world.run_sql("UPDATE jobs SET status = 'running', attempt = 1, heartbeat_at = now(), items_done = 2, items_failed = 1, \
             started_at = now() - interval '2 seconds' WHERE status = 'queued' AND kind NOT IN ('webhook_delivery', 'mail')",
    )
    .await;
}

async fn end(world: &World, kind: Kind, id: Uuid, ending: Ending) -> Ended {
    let finish = Finish { id, kind, attempt: 1, ending };
    Job::finish(&mut *world.conn().await, &[finish]).await.unwrap()
}

fn failed() -> Ending {
    let failure = Failure { code: "node_failed".to_owned(), message: "It was not to be.".to_owned() };
    Ending::Failed(failure, None)
}

/// A run of a pipeline: `a` is an input, `b` and `c` come after it.
async fn run(world: &World, tenant: &Tenant, webhook_url: Option<&str>) -> Uuid {
    let nodes = json!([
        node("a", "input", json!({})),
        node("b", "transform", json!({ "operation": "upper" })),
        node("c", "transform", json!({ "operation": "upper" })),
    ]);
    let (nodes, connections) = normalized(&nodes, &json!([edge("a", "b"), edge("b", "c")]));
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: tenant.user,
        organization_id: tenant.organization,
        weight: 1,
        pipeline_id: Uuid::now_v7(),
        pipeline_name: "Loud".to_owned(),
        nodes,
        connections,
        inputs: json!({ "a": { "text": "hello" } }),
        webhook_url: webhook_url.map(ToOwned::to_owned),
        webhook_secret: None,
        awaited: false,
        retry_of: None,
        tick: None,
        cost_limit_nanos: None,
        token_limit: None,
    };
    Execution::start(&mut *world.conn().await, new).await.unwrap().job.id
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_models_are_told_with_exactly_their_fields() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    webhook(&world, &tenant, &all_events()).await;
    let (choices, usage) = (json!([{ "index": 0 }]), json!({ "total_tokens": 3 }));

    let id = running(&world, &tenant, &question(), 1).await[0];
    let result = json!({ "choices": choices, "usage": usage, "metadata": { "cost": 1 } });
    let ended = end(&world, Kind::ChatCompletion, id, Ending::Completed(result)).await;
    assert_eq!(ended.hints.len(), 1, "the queue is told");
    let expected = json!({
        "task_id": id, "status": "completed", "result": { "choices": choices, "usage": usage }, "user_id": tenant.user,
    });
    assert_eq!(told(&world, "ai.task.completed").await, expected);

    let id = running(&world, &tenant, &question(), 1).await[0];
    end(&world, Kind::ChatCompletion, id, failed()).await;
    let expected = json!({ "task_id": id, "status": "failed", "error": "It was not to be.", "user_id": tenant.user });
    assert_eq!(told(&world, "ai.task.failed").await, expected);

    let id = running(&world, &tenant, &question(), 1).await[0];
    let ended = end(&world, Kind::ChatCompletion, id, Ending::Cancelled).await;
    assert!(ended.hints.is_empty() && deliveries(&world).await.is_empty(), "whoever stopped it knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn image_analyses_are_told_with_exactly_their_fields() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    webhook(&world, &tenant, &all_events()).await;
    let payload = Payload::ImageAnalysis(ImageAnalysis { job_type: JobType::Batch, product_id: Uuid::now_v7() });
    for (ending, status) in [(Ending::Completed(json!({})), "completed"), (failed(), "failed")] {
        let id = running(&world, &tenant, &payload, 1).await[0];
        end(&world, Kind::ImageAnalysis, id, ending).await;
        let expected = json!({
            "job_id": id, "job_type": "batch", "status": status, "total_images": 3, "processed_images": 2,
            "failed_images": 1, "user_id": tenant.user,
        });
        assert_eq!(told(&world, &format!("job.{status}")).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_told_with_the_results_that_the_api_shows() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    webhook(&world, &tenant, &all_events()).await;

    let id = run(&world, &tenant, None).await;
    begin(&world).await;
    let steps = "UPDATE job_steps SET status = 'completed', result = CASE name \
        WHEN 'b' THEN '{\"text\": \"HELLO\", \"json\": [1], \"metadata\": {\"tokens_used\": 5}}'::jsonb \
        WHEN 'c' THEN '{\"object\": \"executions/1/c\", \"preview\": \"HEL\", \"bytes\": 70000}'::jsonb ELSE '{}' END";
    world.run_sql(steps).await;
    end(&world, Kind::PipelineRun, id, Ending::Completed(json!({}))).await;
    let mut data = told(&world, "execution.completed").await;
    let duration = data["duration"].take();
    assert!((2_000..60_000).contains(&duration.as_i64().unwrap()), "{duration}");
    let execution = Execution::get(&mut *world.conn().await, id).await.unwrap();
    let results = json!({
        "b": { "text": "HELLO", "json": [1], "metadata": { "model": null, "tokens_used": 5, "cost": 0 } },
        "c": {
            "text": "HEL",
            "metadata": { "model": null, "tokens_used": 0, "cost": 0, "truncated": true, "size_bytes": 70_000 },
        },
    });
    let expected = json!({
        "execution_id": id, "pipeline_id": execution.pipeline_id, "pipeline_name": "Loud", "status": "completed",
        "duration": null, "results": results, "user_id": tenant.user,
    });
    assert_eq!(data, expected);

    let id = run(&world, &tenant, None).await;
    begin(&world).await;
    world.run_sql("UPDATE executions SET error_node_id = 'b'").await;
    end(&world, Kind::PipelineRun, id, failed()).await;
    let data = told(&world, "execution.failed").await;
    let error = json!({ "code": "PIPELINE_EXECUTION_FAILED", "message": "It was not to be.", "node_id": "b" });
    assert_eq!((&data["status"], &data["error"], &data["execution_id"]), (&json!("failed"), &error, &json!(id)));
    assert!(data.get("results").is_none() && data.as_object().unwrap().len() == 7, "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_back_of_a_run_is_a_delivery_of_its_own() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    for (ending, event) in [
        (Ending::Completed(json!({})), Some("execution.completed")),
        (failed(), Some("execution.failed")),
        (Ending::Cancelled, None),
    ] {
        let id = run(&world, &tenant, Some("https://example.com/done")).await;
        begin(&world).await;
        end(&world, Kind::PipelineRun, id, ending).await;
        let rows = deliveries(&world).await;
        let found: Vec<_> = rows.iter().map(|row| (row.event.as_str(), row.webhook_id, row.execution_id)).collect();
        let expected: Vec<_> = event.into_iter().map(|event| (event, None, Some(id))).collect();
        assert_eq!(found, expected);
        clear(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_told_to_its_user_and_runs_to_the_members_of_the_organization() {
    let world = World::new().await;
    let owner = member(&world, None).await;
    let colleague = member(&world, Some(owner.organization)).await;
    let gone = member(&world, Some(owner.organization)).await;
    let disabled = member(&world, Some(owner.organization)).await;
    let stranger = member(&world, None).await;
    let mut hooks = Vec::new();
    for tenant in [&owner, &colleague, &gone, &disabled, &stranger] {
        hooks.push(webhook(&world, tenant, &all_events()).await);
    }
    let deaf = webhook(&world, &owner, &["execution.failed"]).await;
    let off = webhook(&world, &owner, &all_events()).await;
    world.run_sql(&format!("UPDATE webhooks SET is_active = FALSE WHERE id = '{off}'")).await;
    world.run_sql(&format!("DELETE FROM memberships WHERE user_id = '{}'", gone.user)).await;
    world.run_sql(&format!("UPDATE users SET is_active = FALSE WHERE id = '{}'", disabled.user)).await;

    let (own, both) = (vec![hooks[0]], vec![hooks[0], hooks[1]]);
    for (event, expected) in [
        (WebhookEvent::JobCompleted, &own),
        (WebhookEvent::AiTaskFailed, &own),
        (WebhookEvent::QuotaWarning, &own),
        (WebhookEvent::ExecutionCompleted, &both),
        (WebhookEvent::OrchestrationStarted, &both),
        (WebhookEvent::OrchestrationCancelled, &both),
    ] {
        let occurrence =
            Occurrence { event, user_id: owner.user, organization_id: owner.organization, data: json!({ "a": 1 }) };
        let hints = Occurrence::announce(&mut *world.conn().await, &[occurrence]).await.unwrap();
        let rows = deliveries(&world).await;
        let mut heard: Vec<_> = rows.iter().map(|row| row.webhook_id.unwrap()).collect();
        heard.sort_unstable();
        assert_eq!(&heard, expected, "{event}; {deaf} has not subscribed");
        assert_eq!(hints.len(), rows.len());
        assert!(
            rows.iter().all(|row| row.body == format!(r#"{{"id":"{}","event":"{event}","data":{{"a":1}}}}"#, row.id))
        );
        let owners: Vec<_> = rows.iter().map(|row| row.user_id).collect();
        assert!(owners.iter().all(|user| [owner.user, colleague.user].contains(user)));
        clear(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_jobs_that_end_together_tell_three_webhooks_in_order() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    for _ in 0..3 {
        webhook(&world, &tenant, &["ai.task.completed"]).await;
    }
    let ids = running(&world, &tenant, &question(), 100).await;
    let finish = |id: &Uuid| Finish {
        id: *id,
        kind: Kind::ChatCompletion,
        attempt: 1,
        ending: Ending::Completed(json!({ "choices": [], "usage": {} })),
    };
    let finishes: Vec<_> = ids.iter().map(finish).collect();
    let ended = Job::finish(&mut *world.conn().await, &finishes).await.unwrap();
    assert_eq!((ended.events.len(), ended.hints.len()), (100, 300));
    let again = Job::finish(&mut *world.conn().await, &finishes).await.unwrap();
    assert_eq!((again.events.len(), again.hints.len()), (0, 0), "what has ended ends once");

    let rows = deliveries(&world).await;
    let told: Vec<Value> =
        rows.iter().map(|row| serde_json::from_str::<Value>(&row.body).unwrap()["data"]["task_id"].take()).collect();
    let expected: Vec<Value> = ids.iter().flat_map(|id| [json!(id), json!(id), json!(id)]).collect();
    assert_eq!(told, expected, "in the order in which the jobs ended");
    assert!(rows.is_sorted_by_key(|row| row.id), "the ids rise with the order");
    let hinted: Vec<Uuid> = ended.hints.iter().map(|hint| hint.ticket.id).collect();
    assert_eq!(hinted, rows.iter().map(|row| row.id).collect::<Vec<_>>());
    clear(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_is_told_to_nobody() {
    let world = World::new().await;
    let tenant = member(&world, None).await;
    let hook = webhook(&world, &tenant, &all_events()).await;
    let id = running(&world, &tenant, &question(), 1).await[0];
    let finish = [Finish { id, kind: Kind::ChatCompletion, attempt: 1, ending: failed() }];
    let mut conn = world.conn().await;
    let undone = conn.transaction(async |conn| {
        let ended = Job::finish(conn, &finish).await?;
        assert_eq!(ended.hints.len(), 1);
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    });
    undone.await.unwrap_err();
    assert_eq!(world.job(id).await.status, JobStatus::Running);
    assert_eq!(world.count_rows("webhook_deliveries").await, 0);

    // a webhook that is being deleted keeps nobody from ending: whoever comes second sees what the first one did
    let mut other = world.conn().await;
    other.batch_execute(&format!("BEGIN; DELETE FROM webhooks WHERE id = '{hook}'")).await.unwrap();
    let ending = Job::finish(&mut conn, &finish);
    let (ended, ()) = tokio::join!(ending, async {
        eventually("the end to wait for the deletion", async || {
            let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            (world.count_rows(waiting).await > 0).then_some(())
        })
        .await;
        other.batch_execute("COMMIT").await.unwrap();
    });
    let ended = ended.unwrap();
    assert_eq!((ended.events.len(), ended.hints.len()), (1, 0));
    assert_eq!(world.job(id).await.status, JobStatus::Failed);
}

/// Every run that has ended well has told it once, and no other.
async fn assert_told_once(world: &World) {
    let torn = "executions x JOIN jobs j ON j.id = x.id \
        WHERE (SELECT count(*) FROM webhook_deliveries d \
               WHERE d.body::jsonb -> 'data' ->> 'execution_id' = x.id::text) \
            <> CASE WHEN j.status = 'completed' THEN 1 ELSE 0 END";
    assert_eq!(world.count_rows(torn).await, 0, "runs whose end and whose delivery are not together");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_ends_with_their_deliveries_or_neither() {
    let world = World::with_own_redis().await;
    let tenant = member(&world, None).await;
    webhook(&world, &tenant, &["execution.completed"]).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(run(&world, &tenant, None).await);
    }
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let start = || world.process(&["worker", "--pool", "pipelines"], &[]);
    let mut worker: Process = start();
    for least in [3, 20] {
        world.wait_for_count(&ids, JobStatus::Completed, least).await;
        worker.kill();
        assert_told_once(&world).await;
        // what waited for its turn in Redis is found again
        redis::cmd("FLUSHALL").exec_async(&mut world.redis.clone()).await.unwrap();
        worker = start();
    }
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    assert_told_once(&world).await;
    assert_eq!(deliveries(&world).await.len(), ids.len());

    // and the deliveries themselves come back into Redis without anybody telling it
    eventually("all deliveries to be ready", async || {
        let depth = world.queue("webhooks").depth().await.ok()?;
        (depth.ready == 60).then_some(())
    })
    .await;
    clear(&world).await;
}
