//! Queues and workers.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{World, eventually};
use serde_json::{Value, json};
use shared::{
    kind::Probe,
    models::{Job, JobStatus, QueuePause},
};

const NOTHING: Probe = Probe { steps: 0, hold_ms: 0 };

/// The line of a queue in the operator's list.
async fn listed(world: &World, queue: &str) -> Value {
    let list = world.admin(&["queue", "list"]).await;
    list["queues"].as_array().unwrap().iter().find(|line| line["queue"] == queue).unwrap().clone()
}

async fn flush(world: &World) {
    redis::cmd("FLUSHALL").query_async::<()>(&mut world.redis.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_accepts_and_claims_nothing_until_it_is_resumed() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    let _worker = world.worker(&["probes"]).await;
    // what runs already goes on
    let long = world.submit_one(&tenant, Probe { steps: 3, hold_ms: 300 }).await;
    world.wait_for_status(long, JobStatus::Running).await;
    let said = world.admin(&["queue", "pause", "probes"]).await;
    assert_eq!(said, json!({ "queue": "probes", "paused": true, "changed": true }));
    world.wait_for_status(long, JobStatus::Completed).await;

    let ids = world.submit(&tenant, &NOTHING, 20).await;
    let line = listed(&world, "probes").await;
    let told = (&line["paused"], &line["waiting"], &line["running"], &line["redis"]["ready"], &line["listeners"]);
    assert_eq!(told, (&json!(true), &json!(20), &json!(0), &json!(20), &json!(1)));
    assert!(line["paused_at"].is_string() && line["waiting_since"].is_string(), "{line}");
    assert_eq!(world.admin(&["queue", "pause", "probes"]).await["changed"], false);

    // a Redis that has forgotten everything offers the jobs, and nobody gets them
    flush(&world).await;
    world.push(&tenant, &ids).await.unwrap();
    eventually("the worker to have asked for all of them", async || {
        let depth = world.queue("probes").depth().await.unwrap();
        (depth.ready == 0 && depth.leased == 0).then_some(())
    })
    .await;
    assert_eq!(world.count(&ids, JobStatus::Queued).await, 20);
    assert_eq!(world.count_rows("jobs WHERE status = 'queued' AND attempt > 0").await, 0, "no attempt was counted");
    assert!(!world.queue("probes").is_paused().await.unwrap());

    // the scheduler tells Redis again, of the pause and of the jobs
    let _scheduler = world.scheduler_with(&[("ATELIER_REQUEUE_EVERY", "1")]).await;
    eventually("Redis to know of all again", async || {
        let queue = world.queue("probes");
        (queue.is_paused().await.unwrap() && queue.depth().await.unwrap().ready == 20).then_some(())
    })
    .await;
    assert_eq!(world.count(&ids, JobStatus::Queued).await, 20);

    let said = world.admin(&["queue", "resume", "probes"]).await;
    assert_eq!(said, json!({ "queue": "probes", "paused": false, "changed": true }));
    world.drain().await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 1).await;
    assert_eq!(listed(&world, "probes").await["paused"], false);
    assert_eq!(world.admin(&["queue", "resume", "probes"]).await["changed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_in_postgres_alone_keeps_a_pause_and_other_queues_go_on() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let ids = world.insert_probes(&tenant, &NOTHING, 3).await;
    let claim = async |ids: &[uuid::Uuid]| Job::claim(&mut *world.conn().await, ids, "a test", 3).await.unwrap();
    QueuePause::insert(&mut *world.conn().await, "probes").await.unwrap();
    QueuePause::insert(&mut *world.conn().await, "mails").await.unwrap();
    assert!(claim(&ids).await.is_empty());
    world.run_sql("UPDATE jobs SET crashes = 2").await;
    let suspect = Job::claim_suspect(&mut *world.conn().await, ids[0], "a test", 3).await.unwrap();
    assert!(suspect.is_none(), "not even one that is to run alone");
    world.run_sql("UPDATE jobs SET crashes = 0").await;
    assert!(QueuePause::delete(&mut *world.conn().await, "probes").await.unwrap());
    assert_eq!(claim(&ids).await.len(), 3, "that another queue is paused is no matter");
    world.run_sql("DELETE FROM jobs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_and_resumed_while_redis_is_away() {
    let world = World::with_own_redis().await;
    let tenant = world.tenant(1).await;
    world.redis_server(|server| server.stop());
    let paused = world.admin_ran(&["queue", "pause", "probes"]).await;
    assert!(paused.stderr.contains("Redis was not told"), "{}", paused.stderr);
    assert_eq!(paused.json()["paused"], true);
    let list = world.admin_ran(&["queue", "list"]).await;
    assert!(list.stderr.contains("what Redis knows is missing"), "{}", list.stderr);
    let list = list.json();
    let line = list["queues"].as_array().unwrap().iter().find(|line| line["queue"] == "probes").unwrap();
    assert_eq!((&line["paused"], &line["redis"], &line["listeners"]), (&json!(true), &Value::Null, &Value::Null));

    world.redis_server(|server| server.start_again());
    let _scheduler = world.scheduler().await;
    let told = async || world.queue("probes").is_paused().await.unwrap_or(false);
    eventually("Redis to be told of the pause", async || told().await.then_some(())).await;
    let _worker = world.worker(&["probes"]).await;
    let id = world.submit_one(&tenant, NOTHING).await;
    // the truth alone changes; the scheduler passes it on
    QueuePause::delete(&mut *world.conn().await, "probes").await.unwrap();
    world.wait_for_status(id, JobStatus::Completed).await;
    let complaint = world.admin_ran(&["queue", "pause", "nothing"]).await.complaint();
    assert!(complaint.contains("queue list"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_whether_they_have_anything_to_do_or_not() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    assert_eq!(world.admin(&["worker", "list"]).await, json!({ "workers": [] }));
    let mut worker = world.process(&["worker", "--pool", "probes"], &[]);
    let workers = async || world.admin(&["worker", "list"]).await["workers"].as_array().unwrap().clone();
    let idle = eventually("the worker to say that it is there", async || workers().await.into_iter().next()).await;
    assert_eq!((&idle["running"], &idle["queues"], &idle["present"]), (&json!(0), &json!(["probes"]), &json!(true)));
    assert!(idle["slots"].as_u64().unwrap() > 0 && idle["version"].is_string() && idle["started_at"].is_string());
    assert!(idle["worker"].as_str().unwrap().contains(&worker.id().to_string()), "{idle}");

    let id = world.submit_one(&tenant, Probe { steps: 0, hold_ms: 60_000 }).await;
    world.wait_for_status(id, JobStatus::Running).await;
    let busy = workers().await;
    assert_eq!((busy.len(), &busy[0]["running"], &busy[0]["worker"]), (1, &json!(1), &idle["worker"]));
    let table = world.command(&["admin", "worker", "list"]).await;
    assert!(table.stdout.contains("probes") && table.stdout.contains("running"), "{}", table.stdout);
    world.cancel(&tenant, id).await;
    world.wait_for_status(id, JobStatus::Cancelled).await;
    assert!(worker.terminate());
    assert_eq!(workers().await, Vec::<Value>::new(), "one that was stopped says that it goes");
}
