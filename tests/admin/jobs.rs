//! Jobs: listed, shown, tried again, discarded.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use harness::{Member, Tenant, World, assert_whole, project_root};
use serde_json::{Value, json};
use shared::{
    events::{Change, Progress},
    kind::Probe,
    models::{Ending, Failure, Finish, Job, JobStatus, JobStep, StepChange, StepKey, StepStatus},
};
use uuid::Uuid;

const NOTHING: Probe = Probe { steps: 0, hold_ms: 0 };

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: "A test wants it so.".to_owned() }
}

/// Claims a job as a worker does.
async fn claim(world: &World, id: Uuid) -> Job {
    Job::claim(&mut *world.conn().await, &[id], "a test", 3).await.unwrap().pop().unwrap()
}

/// Ends a job from within its attempt; `false`: the attempt does not hold it.
async fn end(world: &World, job: &Job, ending: Ending) -> bool {
    let finish = Finish { id: job.id, kind: job.kind, attempt: job.attempt, ending };
    !Job::finish(&mut *world.conn().await, &[finish]).await.unwrap().is_empty()
}

/// Claims a job and fails it.
async fn fail(world: &World, id: Uuid) -> Job {
    let job = claim(world, id).await;
    assert!(end(world, &job, Ending::Failed(failure("broken"), None)).await);
    job
}

async fn step(world: &World, job: &Job, number: i16, status: StepStatus) {
    let name = format!("step_{number}");
    let change = StepChange {
        key: StepKey { item: Uuid::nil(), name: &name, position: number },
        status,
        started_at: chrono::Utc::now(),
        error_message: None,
        result: json!({ "held_ms": 0 }),
        told: None,
        progress: Progress { completed: 0, total: 2 },
    };
    JobStep::record(&mut *world.conn().await, job.id, job.attempt, &change).await.unwrap().unwrap();
}

fn ids(answer: &Value, key: &str) -> Vec<Uuid> {
    answer[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect()
}

fn reasons(answer: &Value) -> Vec<&str> {
    answer["refused"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect()
}

async fn failed_probes(world: &World, tenant: &Tenant, count: usize) -> Vec<Uuid> {
    let ids = world.insert_probes(tenant, &NOTHING, count).await;
    for id in &ids {
        fail(world, *id).await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_by_status_kind_and_queue_and_shown_with_what_went_wrong() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let failed = failed_probes(&world, &tenant, 3).await;
    let waiting = world.insert_probes(&tenant, &NOTHING, 1).await[0];
    let listed = async |words: &[&str]| {
        let answer = world.admin(&[&["job", "list"], words].concat()).await;
        answer["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().parse::<Uuid>().unwrap())
            .collect::<Vec<_>>()
    };
    let latest: Vec<Uuid> = failed.iter().rev().copied().collect();
    assert_eq!(listed(&["--status", "failed"]).await, latest, "the latest end first");
    assert_eq!(listed(&["--status", "failed", "--limit", "2"]).await, latest[..2]);
    assert_eq!(listed(&["--status", "queued,running"]).await, [waiting]);
    assert_eq!(listed(&["--kind", "probe", "--queue", "probes"]).await, [&[waiting][..], &latest].concat());
    assert_eq!(listed(&["--kind", "mail,pipeline_run"]).await, Vec::<Uuid>::new());
    assert_eq!(listed(&["--queue", "images"]).await, Vec::<Uuid>::new());

    let shown = world.admin(&["job", "show", &failed[0].to_string()]).await["job"].clone();
    let expected = json!(["failed", "probe", "probes", "broken", "A test wants it so.", 1, 1, tenant.organization]);
    let keys =
        ["status", "kind", "queue", "error_code", "error_message", "attempt", "charged_attempts", "organization_id"];
    assert_eq!(json!(keys.map(|key| shown[key].clone())), expected);
    assert_eq!((&shown["errors"][0]["code"], &shown["payload"]["kind"]), (&json!("broken"), &json!("probe")));
    let table = world.command(&["admin", "job", "show", &failed[0].to_string()]).await;
    assert!(table.stdout.contains("A test wants it so.") && table.stdout.contains("what went wrong"), "{table:?}");
    let table = world.command(&["admin", "job", "list", "--status", "failed"]).await;
    assert!(table.stdout.contains(&failed[0].to_string()), "{table:?}");
    let unknown = Uuid::now_v7().to_string();
    assert!(world.admin_ran(&["job", "show", &unknown]).await.complaint().contains("job list"));
    assert!(world.admin_ran(&["job", "list", "--queue", "nothing"]).await.complaint().contains("queue list"));
    world.run_sql("DELETE FROM jobs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_job_goes_on_behind_its_finished_steps_with_all_attempts_before_it() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let id = world.insert_probes(&tenant, &Probe { steps: 2, hold_ms: 0 }, 1).await[0];
    world.run_sql("UPDATE jobs SET attempt = 2, crashes = 2, forgiven = 1").await;
    let job = Job::claim_suspect(&mut *world.conn().await, id, "a test", 3).await.unwrap().unwrap();
    step(&world, &job, 0, StepStatus::Running).await;
    step(&world, &job, 0, StepStatus::Completed).await;
    step(&world, &job, 1, StepStatus::Running).await;
    assert!(end(&world, &job, Ending::Failed(failure("broken"), None)).await);
    let finished = world.steps(id).await;
    assert_eq!((finished[0].status, finished[1].status), (StepStatus::Completed, StepStatus::Failed));

    let answer = world.admin(&["job", "retry", &id.to_string()]).await;
    assert_eq!((ids(&answer, "retried"), reasons(&answer)), (vec![id], vec![]));
    let opened = world.job(id).await;
    let stands = (opened.status, opened.attempt, opened.charged_attempts(), opened.crashes);
    assert_eq!(stands, (JobStatus::Queued, 3, 0, 0), "the number of the attempt goes on: it keeps late writers out");
    assert_eq!((opened.error_code, opened.error_message, opened.result), (None, None, None));
    assert_eq!((opened.started_at, opened.finished_at, opened.worker), (None, None, None));
    assert_eq!(opened.errors.as_array().unwrap().len(), 1, "what went wrong is remembered");
    assert!(!end(&world, &job, Ending::Completed(json!({}))).await, "the old attempt writes nothing any more");
    let steps = world.steps(id).await;
    assert_eq!((steps[0].status, steps[1].status), (StepStatus::Completed, StepStatus::Pending));
    let told = world.events(id).await;
    assert!(told.iter().all(|event| !matches!(event.body.change, Change::JobFinished { .. })));
    let last = told.last().unwrap();
    assert!(matches!(&last.body.change, Change::Log { message, .. } if message.contains("operator")), "{last:?}");
    assert_eq!(last.body.progress, Progress { completed: 1, total: 2 });

    // Redis was told, so that no scheduler is needed
    let _worker = world.worker(&["probes"]).await;
    let done = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((done.attempt, done.charged_attempts()), (4, 1));
    let steps = world.steps(id).await;
    assert_eq!((steps[0].attempt, steps[1].attempt), (3, 4), "the finished step was not run again");
    assert_whole(&world.events(id).await, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_cancelled_before_it_began_begins_as_if_new() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let id = world.insert_probes(&tenant, &Probe { steps: 1, hold_ms: 0 }, 1).await[0];
    world.cancel(&tenant, id).await;
    assert_whole(&world.events(id).await, JobStatus::Cancelled);
    world.admin(&["job", "retry", &id.to_string()]).await;
    assert_eq!(world.events(id).await, []);
    let opened = world.job(id).await;
    assert_eq!((opened.status, opened.last_seq, opened.cancel_requested), (JobStatus::Queued, 0, false));
    let _worker = world.worker(&["probes"]).await;
    world.drain().await;
    world.assert_each_ended_once(&[id], JobStatus::Completed, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_again_is_named_with_the_reason_and_the_rest_is() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let tenant = world.tenant(1).await;
    let failed = failed_probes(&world, &tenant, 2).await;
    let running = world.insert_probes(&tenant, &NOTHING, 1).await[0];
    let job = claim(&world, running).await;
    let completed = world.insert_probes(&tenant, &NOTHING, 1).await[0];
    let ended = claim(&world, completed).await;
    assert!(end(&world, &ended, Ending::Completed(json!({}))).await);
    member.client.post("/auth/forgot-password", json!({ "email": member.email })).await.expect(202);
    let mail = Uuid::parse_str(&one(&world, "SELECT id::text AS text FROM jobs WHERE kind = 'mail'").await).unwrap();
    fail(&world, mail).await;
    let unknown = Uuid::now_v7();
    let words: Vec<String> =
        [failed[0], running, completed, mail, unknown, failed[1], failed[0]].iter().map(ToString::to_string).collect();
    let words: Vec<&str> = ["job", "retry"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let ran = world.admin_ran(&words).await;
    for said in ["it is running", "it is completed", "mail", "no such job"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let answer = ran.json_with(1);
    assert_eq!(ids(&answer, "retried"), failed);
    assert_eq!(reasons(&answer).len(), 4);
    let shown = world.admin(&["job", "show", &mail.to_string()]).await;
    assert_eq!(shown["job"]["payload"], Value::Null, "what a mail says may open an account");
    assert!(end(&world, &job, Ending::Completed(json!({}))).await, "one that runs is left alone");
    let _worker = world.worker(&["probes"]).await;
    world.drain().await;
    world.assert_each_ended_once(&failed, JobStatus::Completed, 2).await;
}

/// A text out of the database.
async fn one(world: &World, query: &str) -> String {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    diesel::sql_query(query).get_result::<Row>(&mut world.conn().await).await.unwrap().text
}

#[tokio::test(flavor = "multi_thread")]
async fn all_failed_jobs_of_a_kind_are_tried_again_and_no_others() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let (ids, others) = (world.insert_probes(&tenant, &NOTHING, 450).await, failed_probes(&world, &tenant, 1).await);
    world
        .run_sql(&format!(
            "UPDATE jobs SET status = 'failed', attempt = 1, error_code = 'broken', \
                 finished_at = now() - interval '1 hour' \
             WHERE status = 'queued'; UPDATE jobs SET kind = 'mail', queue = 'mails' WHERE id = '{}'",
            others[0]
        ))
        .await;
    let answer = world.admin(&["job", "retry", "--all-failed", "--kind", "probe"]).await;
    assert_eq!((self::ids(&answer, "retried").len(), reasons(&answer)), (450, vec![]));
    assert_eq!(world.queue("probes").depth().await.unwrap().ready, 450);
    assert_eq!(world.job(others[0]).await.status, JobStatus::Failed);
    let _worker = world.worker(&["probes"]).await;
    world.drain().await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 2).await;
    let answer = world.admin(&["job", "retry", "--all-failed", "--kind", "probe"]).await;
    assert_eq!(answer, json!({ "retried": [], "refused": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_needs_no_redis_and_the_scheduler_passes_it_on() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let id = failed_probes(&world, &tenant, 1).await[0];
    world.redis_server(|server| server.stop());
    let ran = world.admin_ran(&["job", "retry", &id.to_string()]).await;
    assert!(ran.stderr.contains("Redis was not told"), "{}", ran.stderr);
    assert_eq!(ids(&ran.json(), "retried"), [id]);
    world.redis_server(|server| server.start_again());
    let (_worker, _scheduler) = (world.worker(&["probes"]).await, world.scheduler().await);
    world.wait_for_status(id, JobStatus::Completed).await;
}

async fn failed_run(world: &World, member: &Member) -> Uuid {
    let body = json!({
        "name": "Shout", "nodes": [{ "id": "in", "type": "input" }, { "id": "out", "type": "output" }],
        "connections": [{ "source": "in", "target": "out" }],
    });
    let pipeline = member.client.post("/pipelines", body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let run = json!({ "inputs": { "in": { "text": "a" } } });
    let run = member.client.post(&format!("/pipelines/{pipeline}/run"), run).await.expect(202);
    let id: Uuid = run["execution_id"].as_str().unwrap().parse().unwrap();
    let mut hand = world.take(id).await;
    hand.completes("in", "a").await;
    hand.fail("out", "node_failed", "no").await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_retried_keeps_its_nodes_and_is_not_counted_again() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let id = failed_run(&world, &member).await;
    let path = format!("/executions/{id}");
    let before = member.client.get(&path).await.expect(200);
    assert_eq!((&before["status"], &before["error"]["node_id"]), (&json!("failed"), &json!("out")));
    let used = async || member.client.get("/users/me").await.expect(200)["quota"]["daily"]["used"].clone();
    let counted = used().await;

    world.admin(&["job", "retry", &id.to_string()]).await;
    let opened = member.client.get(&path).await.expect(200);
    assert_eq!((&opened["status"], &opened["error"]), (&json!("queued"), &Value::Null));
    assert_eq!((&opened["started_at"], &opened["completed_at"]), (&Value::Null, &Value::Null));
    let _worker = world.worker(&["pipelines"]).await;
    world.wait_for_status(id, JobStatus::Completed).await;
    let done = member.client.get(&path).await.expect(200);
    assert_eq!((&done["status"], &done["error"]), (&json!("completed"), &Value::Null));
    assert_eq!(done["results"]["out"]["text"], "a", "out of the node that was finished before");
    let steps = world.steps(id).await;
    let attempts: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.attempt)).collect();
    assert_eq!(attempts, [("in", 1), ("out", 2)]);
    assert_eq!(used().await, counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_that_is_retried_waits_again_unless_a_later_job_has_it() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let product = member.product("Mug").await;
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, job) = member.analysed_image(&product, &file, "image/jpeg").await;
    let id: Uuid = job.parse().unwrap();
    fail(&world, id).await;
    let stands = async || {
        let product = member.client.get(&format!("/products/{product}")).await.expect(200)["status"].clone();
        let analysis = member.client.get(&format!("/analysis/{image}")).await.expect(200);
        (product, analysis["status"].clone(), analysis["error_message"].clone())
    };
    assert_eq!(stands().await, (json!("draft"), json!("failed"), json!("A test wants it so.")));

    world.admin(&["job", "retry", &job]).await;
    assert_eq!(stands().await, (json!("processing"), json!("pending"), Value::Null));
    let shown = member.client.get(&format!("/jobs/{job}")).await.expect(200);
    assert_eq!((&shown["status"], &shown["failed_images"]), (&json!("queued"), &json!(0)));
    assert!(shown["steps"].as_array().unwrap().iter().all(|step| step["status"] == "pending"), "{shown}");
    assert_eq!(world.count_rows("job_images WHERE status = 'pending'").await, 1);

    fail(&world, id).await;
    let again = member.client.post(&format!("/analysis/{image}/retry"), json!({})).await.expect(200);
    let answer = world.admin_ran(&["job", "retry", &job]).await.json_with(1);
    assert!(reasons(&answer)[0].contains("later jobs"), "{answer}");
    let again = again["job_id"].as_str().unwrap();
    member.client.post(&format!("/jobs/{again}/cancel"), json!({})).await.expect(200);
    world.admin(&["job", "retry", again]).await;
    assert_eq!(stands().await, (json!("processing"), json!("pending"), Value::Null), "what was cancelled, too");
    member.client.post(&format!("/jobs/{again}/cancel"), json!({})).await.expect(200);
    assert_eq!(stands().await.0, "draft");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_retried_is_sent_again() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let hook = json!({ "url": "https://hooks.example.com/", "events": ["job.failed"] });
    let hook = member.client.post("/webhooks", hook).await.expect(201)["id"].as_str().unwrap().to_owned();
    let sent = member.client.post(&format!("/webhooks/{hook}/test"), json!({})).await.expect(202);
    let id: Uuid = sent["delivery_id"].as_str().unwrap().parse().unwrap();
    fail(&world, id).await;
    let delivery = async || {
        let list = member.client.get(&format!("/webhooks/{hook}/deliveries")).await.expect(200);
        list["data"][0]["status"].clone()
    };
    assert_eq!(delivery().await, "failed");
    let answer = world.admin(&["job", "retry", "--all-failed", "--kind", "webhook_delivery"]).await;
    assert_eq!((ids(&answer, "retried"), delivery().await), (vec![id], json!("pending")));
    fail(&world, id).await;
    world.admin(&["job", "discard", &id.to_string()]).await;
    let list = member.client.get(&format!("/webhooks/{hook}/deliveries")).await.expect(200);
    assert_eq!(list["pagination"]["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_jobs_are_gone_with_their_objects_and_others_stay() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (run, kept) = (failed_run(&world, &member).await, failed_run(&world, &member).await);
    let object = format!("executions/{run}/out.json");
    diesel::sql_query(
        "UPDATE job_steps SET result = jsonb_build_object('object', $2) WHERE job_id = $1 AND name = 'in'",
    )
    .bind::<SqlUuid, _>(run)
    .bind::<Text, _>(&object)
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    let repeat = member.client.post(&format!("/executions/{kept}/retry"), json!({})).await.expect(202);
    let waiting = repeat["execution_id"].as_str().unwrap().to_owned();
    let words = [run.to_string(), kept.to_string(), waiting.clone(), Uuid::now_v7().to_string()];
    let words: Vec<&str> = ["job", "discard"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let answer = world.admin_ran(&words).await.json_with(1);
    assert_eq!(ids(&answer, "discarded"), [run]);
    let mut reasons = reasons(&answer);
    reasons.sort_unstable();
    assert_eq!(reasons, ["another run has taken its results over", "it is queued", "there is no such job"]);
    assert_eq!(member.client.get(&format!("/executions/{run}")).await.error(404), "RESOURCE_NOT_FOUND");
    member.client.get(&format!("/executions/{kept}")).await.expect(200);
    assert_eq!(world.count_rows(&format!("object_deletions WHERE key = '{object}'")).await, 1);
    for table in ["job_steps", "job_events"] {
        assert_eq!(world.count_rows(&format!("{table} WHERE job_id = '{run}'")).await, 0, "{table}");
    }
    member.client.post(&format!("/executions/{waiting}/cancel"), json!({})).await.expect(200);
}
