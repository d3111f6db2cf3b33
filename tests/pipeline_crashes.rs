//! A pipeline whose worker is killed again and again: every answered call is paid for once, at most the calls under way are
//! repeated, and the result is that of an undisturbed run.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{
    prelude::*,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use harness::{LlmPeer, Process, World, assert_whole, eventually};
use serde_json::{Value, json};
use shared::{
    models::{Execution, JobStatus, NewExecution, StepStatus},
    schema::{job_steps, llm_calls},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// How often the worker is killed.
const KILLS: usize = 30;

/// A call takes this long, so that most kills hit one.
const LATENCY: Duration = Duration::from_millis(80);

/// The nodes that call a model.
const CALLS: [&str; 7] = ["plan", "left", "right", "third", "critic", "writer", "title"];

/// Ten nodes: an input, seven calls in four layers, a merge and an output.
fn ten_nodes(run: usize) -> (Value, Value) {
    let llm = |id: &str| {
        json!({ "id": id, "type": "llm", "config": {
            "model": "peer-model", "max_tokens": 50, "prompt": format!("<{run}:{id}> {{{{ input }}}}"),
        }})
    };
    let mut nodes = vec![json!({ "id": "topic", "type": "input", "config": { "input_type": "text" } })];
    nodes.extend(CALLS.map(llm));
    nodes.push(json!({ "id": "joined", "type": "merge", "config": {} }));
    nodes.push(json!({ "id": "result", "type": "output", "config": {} }));
    let edges = [
        ("topic", "plan"),
        ("plan", "left"),
        ("plan", "right"),
        ("plan", "third"),
        ("left", "joined"),
        ("right", "joined"),
        ("third", "joined"),
        ("joined", "critic"),
        ("joined", "title"),
        ("critic", "writer"),
        ("writer", "result"),
        ("title", "result"),
    ];
    let connections = edges.map(|(source, target)| {
        json!({ "id": format!("{source}-{target}"), "source": source, "target": target,
                "source_handle": "output", "target_handle": "input" })
    });
    (json!(nodes), json!(connections))
}

async fn start(world: &World, tenant: &harness::Tenant, run: usize) -> Uuid {
    let (nodes, connections) = ten_nodes(run);
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: tenant.user,
        organization_id: tenant.organization,
        weight: 1,
        pipeline_id: Uuid::now_v7(),
        pipeline_name: "Ten nodes".to_owned(),
        nodes,
        connections,
        inputs: json!({ "topic": { "text": format!("lamps {run}") } }),
        webhook_url: None,
        webhook_secret: None,
        awaited: false,
        retry_of: None,
        tick: None,
        cost_limit_nanos: None,
        token_limit: None,
    };
    let started = Execution::start(&mut *world.conn().await, new).await.unwrap();
    world.queue("pipelines").push(&[started.ticket]).await.unwrap();
    started.job.id
}

/// The calls of a job that are recorded as answered.
async fn answered(world: &World, job_id: Uuid) -> BTreeSet<String> {
    let calls: Vec<String> = llm_calls::table
        .filter(llm_calls::job_id.eq(job_id).and(llm_calls::status.eq("completed")))
        .select(llm_calls::call)
        .load(&mut world.conn().await)
        .await
        .unwrap();
    calls.into_iter().collect()
}

/// What the nodes found, by node, without how long it took.
async fn results(world: &World, job_id: Uuid) -> BTreeMap<String, String> {
    let steps: Vec<(String, StepStatus, Value)> = job_steps::table
        .filter(job_steps::job_id.eq(job_id))
        .select((job_steps::name, job_steps::status, job_steps::result))
        .load(&mut world.conn().await)
        .await
        .unwrap();
    assert!(steps.iter().all(|(_, status, _)| *status == StepStatus::Completed), "{steps:?}");
    steps.into_iter().map(|(name, _, result)| (name, result["text"].as_str().unwrap_or_default().to_owned())).collect()
}

/// Makes the silence of a worker that is dead as long as the scheduler wants it, so that thirty deaths do not take an hour.
async fn let_the_silence_pass(world: &World) {
    diesel::sql_query("UPDATE jobs SET heartbeat_at = now() - interval '1 hour' WHERE status = 'running'")
        .execute(&mut world.conn().await)
        .await
        .unwrap();
}

#[derive(QueryableByName)]
struct Spent {
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
}

/// What the usage records of a job add up to.
async fn usage(world: &World, job_id: Uuid) -> (i64, i64, i64) {
    let spent: Spent = diesel::sql_query(
        "SELECT count(*) AS records, COALESCE(sum(total_tokens), 0)::bigint AS tokens, \
             COALESCE(sum(cost_nanos), 0)::bigint AS cost FROM usage_records WHERE job_id = $1",
    )
    .bind::<SqlUuid, _>(job_id)
    .get_result(&mut world.conn().await)
    .await
    .unwrap();
    (spent.records, spent.tokens, spent.cost)
}

/// How often the peer was asked what this node asks.
fn received(peer: &LlmPeer, run: usize, node: &str) -> usize {
    let marker = format!("<{run}:{node}>");
    peer.calls().iter().filter(|call| call.prompt.starts_with(&marker)).count()
}

fn worker(world: &World, llm_file: &str, workers_file: &str) -> Process {
    let changes = [("ATELIER_LLM_FILE", llm_file), ("ATELIER_WORKERS_FILE", workers_file)];
    world.process(&["worker", "--pool", "pipelines"], &changes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_survives_thirty_kills_and_pays_for_every_answer_once() {
    let world = World::new().await;
    let peer = LlmPeer::start().await;
    peer.set_latency(LATENCY);
    let llm_file = world.llm_file(&peer);
    // kills are this test's doing: they must not use up the attempts
    let workers_file =
        world.workers_file("timeout_seconds = 3600\nattempts = 5", "timeout_seconds = 3600\nattempts = 100");
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_RESCUE_EVERY", "1")]).await;

    // the undisturbed run
    let mut process = worker(&world, &llm_file, &workers_file);
    let undisturbed = start(&world, &tenant, 0).await;
    world.wait_for_status(undisturbed, JobStatus::Completed).await;
    let expected = results(&world, undisturbed).await;
    for call in CALLS {
        assert_eq!(received(&peer, 0, call), 1, "{call}");
    }

    let (mut kills, mut run, mut repeated) = (0, 0, 0);
    while kills < KILLS {
        run += 1;
        let id = start(&world, &tenant, run).await;
        // each run is hit three times, at moments of no choice of ours
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(rand::random_range(20..400))).await;
            process.kill();
            kills += 1;
            let paid = answered(&world, id).await;
            let before: BTreeMap<_, _> = paid.iter().map(|call| (call.clone(), received(&peer, run, call))).collect();
            let_the_silence_pass(&world).await;
            process = worker(&world, &llm_file, &workers_file);
            eventually("the run to be taken over, or to have ended", async || {
                let job = world.job(id).await;
                (job.status.is_final() || job.status == JobStatus::Running && job.crashes > 0 || job.attempt == 0)
                    .then_some(())
            })
            .await;
            for (call, count) in before {
                assert_eq!(received(&peer, run, &call), count, "{call} was answered and asked again");
            }
        }
        let job = world.wait_for_status(id, JobStatus::Completed).await;
        assert_whole(&world.events(id).await, JobStatus::Completed);
        let found: BTreeMap<_, _> = results(&world, id)
            .await
            .into_iter()
            .map(|(node, text)| {
                (node, text.replace(&format!("<{run}:"), "<0:").replace(&format!("lamps {run}"), "lamps 0"))
            })
            .collect();
        assert_eq!(found, expected, "run {run}, attempts {}", job.attempt);
        for call in CALLS {
            let received = received(&peer, run, call);
            // a call under way at a kill is sent again; three kills can hit the same one
            assert!((1..=4).contains(&received), "{call} of run {run} was sent {received} times");
            repeated += received - 1;
        }
        let calls: Vec<(String, i32)> = llm_calls::table
            .filter(llm_calls::job_id.eq(id))
            .select((llm_calls::call, llm_calls::sends))
            .load(&mut world.conn().await)
            .await
            .unwrap();
        assert_eq!(calls.len(), CALLS.len());
        assert_eq!(usage(&world, id).await, usage(&world, undisturbed).await, "paid as without a kill");
    }
    // at most three calls run side by side
    assert!(repeated <= 3 * kills, "{repeated} calls were repeated in {kills} kills");
    assert!(process.terminate());
}
