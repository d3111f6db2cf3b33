//! Workers that die, freeze or are asked to stop: no job is lost, none is done twice, and no finished step is repeated.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Process, World, assert_whole, eventually, project_root};
use serde_json::json;
use shared::{
    events::{Change, Event},
    kind::Probe,
    models::{Job, JobStatus, JobStep, StepStatus},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The arguments of a worker that runs probes only, and so needs no models.
const PROBES: [&str; 3] = ["worker", "--pool", "probes"];

const fn probe(steps: u16, hold_ms: u64) -> Probe {
    Probe { steps, hold_ms }
}

async fn wait_for_step(world: &World, id: Uuid, name: &str, status: StepStatus) -> JobStep {
    eventually(&format!("{name} to be {status}"), async || {
        world.steps(id).await.into_iter().find(|step| step.name == name && step.status == status)
    })
    .await
}

/// Everything that is stored about a job, to be compared with itself later.
async fn snapshot(world: &World, id: Uuid) -> String {
    format!("{:?}\n{:?}\n{:?}", world.job(id).await, world.steps(id).await, world.events(id).await)
}

fn attempts(steps: &[JobStep]) -> Vec<i32> {
    steps.iter().map(|step| step.attempt).collect()
}

/// Something, if a handler has begun with this job.
async fn begun_steps(world: &World, id: Uuid) -> Option<()> {
    world.steps(id).await.iter().any(|step| step.attempt > 0).then_some(())
}

/// How often a step was announced with this status.
fn announced(events: &[Event], name: &str, wanted: StepStatus) -> usize {
    let is_it = |event: &&Event| match &event.body.change {
        Change::StepUpdate { step, status, .. } => step == name && *status == wanted,
        Change::JobStarted | Change::Log { .. } | Change::JobFinished { .. } => false,
    };
    events.iter().filter(is_it).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_goes_on_at_the_step_where_it_died() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler().await;
    let mut first = world.process(&PROBES, &[]);
    let id = world.submit_one(&tenant, probe(5, 1_000)).await;
    wait_for_step(&world, id, "step_2", StepStatus::Running).await;
    let dead = world.job(id).await.worker.unwrap();

    first.kill();
    let killed = Instant::now();
    let _second = world.worker(&["probes"]).await;
    eventually("step_2 to run again", async || {
        let steps = world.steps(id).await;
        steps.iter().any(|step| step.name == "step_2" && step.attempt == 2).then_some(())
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(30), "taken over after {:?}", killed.elapsed());

    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!((job.attempt, job.result), (2, Some(json!({ "steps": 5 }))));
    assert_ne!(job.worker.unwrap(), dead);
    assert_eq!(job.errors[0]["code"], "worker_died");
    assert_eq!(attempts(&world.steps(id).await), [1, 1, 2, 2, 2], "finished steps stay as they were");
    let events = world.events(id).await;
    assert_whole(&events, JobStatus::Completed);
    for (step, begun) in [("step_0", 1), ("step_1", 1), ("step_2", 2), ("step_3", 1), ("step_4", 1)] {
        assert_eq!(announced(&events, step, StepStatus::Running), begun, "{step} began");
        assert_eq!(announced(&events, step, StepStatus::Completed), 1, "{step} ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_an_analysis_costs_no_finished_step() {
    let world = World::new().await;
    let (api, _scheduler) = (world.api().await, world.scheduler().await);
    let member = world.member(&api).await;
    let product = member.product("Rocket").await;
    let photo = project_root().join("tests/images/rocket.jpg");
    let (mut images, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let (image, job) = member.analysed_image(&product, &photo, "image/jpeg").await;
        images.push(image);
        ids.push(job.parse::<Uuid>().unwrap());
    }
    let mut first = world.process(&["worker", "--pool", "images"], &[]);
    eventually("some analyses to be half done", async || {
        let half_done = completed_steps(&world, &ids).await.into_values().filter(|steps| (1..4).contains(&steps.len()));
        (half_done.count() > 1).then_some(())
    })
    .await;
    first.kill();
    let killed = Instant::now();
    let mut before = completed_steps(&world, &ids).await;
    before.retain(|_, steps| steps.len() < 5);
    assert!(!before.is_empty(), "they were faster than kill");

    let _second = world.worker(&["images"]).await;
    eventually("the first of them to go on", async || {
        for id in before.keys() {
            if world.steps(*id).await.iter().any(|step| step.attempt == 2) {
                return Some(());
            }
        }
        None
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(30), "taken over after {:?}", killed.elapsed());
    world.drain().await;
    for id in ids {
        let job = world.job(id).await;
        assert_eq!((job.status, job.items_done, job.items_failed), (JobStatus::Completed, 1, 0));
        assert_whole(&world.events(id).await, JobStatus::Completed);
    }
    for (id, done) in before {
        let steps = world.steps(id).await;
        assert_eq!(steps.len(), 5);
        for step in done {
            let now = steps.iter().find(|now| now.name == step.name).unwrap();
            assert_eq!(format!("{now:?}"), format!("{step:?}"), "a finished step stays as it was");
        }
    }
    for image in images {
        let analysis = member.client.get(&format!("/analysis/{image}")).await.expect(200);
        assert_eq!(analysis["status"], "completed", "{analysis}");
    }
}

/// The completed steps of those jobs that have any.
async fn completed_steps(world: &World, ids: &[Uuid]) -> HashMap<Uuid, Vec<JobStep>> {
    let mut completed: HashMap<_, Vec<_>> = HashMap::new();
    for step in JobStep::list_of_jobs(&mut *world.conn().await, ids).await.unwrap() {
        if step.status == StepStatus::Completed {
            completed.entry(step.job_id).or_default().push(step);
        }
    }
    completed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_writes_nothing_after_another_took_its_job() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler().await;
    let mut frozen = world.process(&PROBES, &[]);
    let id = world.submit_one(&tenant, probe(3, 1_000)).await;
    wait_for_step(&world, id, "step_1", StepStatus::Running).await;

    frozen.pause();
    let other = world.worker(&["probes"]).await;
    let job = world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(job.attempt, 2);
    assert_eq!(attempts(&world.steps(id).await), [1, 2, 2]);
    assert_whole(&world.events(id).await, JobStatus::Completed);
    other.stop().await;
    let before = snapshot(&world, id).await;

    frozen.resume();
    eventually("the thawed worker to give the job up", async || {
        let log = frozen.log();
        log.lines().any(|line| line.contains(&id.to_string()) && line.contains("outcome=\"lost\"")).then_some(())
    })
    .await;
    assert_eq!(snapshot(&world, id).await, before, "the thawed worker wrote nothing");
    // and it is of use again
    let next = world.submit_one(&tenant, probe(1, 0)).await;
    world.wait_for_status(next, JobStatus::Completed).await;
    assert!(frozen.terminate(), "{}", frozen.log());
    assert_eq!(snapshot(&world, id).await, before, "nor did it later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_process_fails_and_takes_no_innocent_with_it() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let killer = world.submit_one(&tenant, probe(0, 60_000)).await;
    let innocents = world.submit(&tenant, &probe(2, 400), 6).await;
    let mut worker = world.process(&PROBES, &[]);
    let mut deaths = 0;
    let job = loop {
        let job = eventually("the killer to run or to end", async || {
            let job = world.job(killer).await;
            (job.status == JobStatus::Running || job.status.is_final()).then_some(job)
        })
        .await;
        if job.status.is_final() {
            break job;
        }
        if deaths == 0 {
            world.wait_for_count(&innocents, JobStatus::Running, innocents.len()).await;
        }
        deaths += 1;
        worker.kill();
        wait_for_rescue(&world, &job).await;
        worker = world.process(&PROBES, &[]);
    };
    assert_eq!((job.status, job.error_code.as_deref()), (JobStatus::Failed, Some("worker_died")));
    assert_eq!((job.attempt, job.max_attempts, deaths), (3, 3, 3), "it had every attempt of its pool and no more");
    assert_eq!(job.errors.as_array().unwrap().len(), 3);
    assert_whole(&world.events(killer).await, JobStatus::Failed);

    world.wait_for_count(&innocents, JobStatus::Completed, innocents.len()).await;
    world.assert_each_ended_once(&innocents, JobStatus::Completed, 3).await;
    assert!(worker.terminate(), "{}", worker.log());
}

async fn wait_for_rescue(world: &World, dead: &Job) {
    eventually("the scheduler to notice the death", async || {
        let job = world.job(dead.id).await;
        (job.status != JobStatus::Running || job.attempt > dead.attempt).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_interrupted_by_one_crash_does_not_wait_until_it_can_run_alone() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let mut first = world.process(&PROBES, &[]);
    let id = world.submit_one(&tenant, probe(2, 1_000)).await;
    wait_for_step(&world, id, "step_1", StepStatus::Running).await;
    first.kill();

    // the worker that takes over is busy for much longer than anybody would wait
    let _second = world.worker(&["probes"]).await;
    let long = world.submit_one(&tenant, probe(0, 60_000)).await;
    world.wait_for_status(long, JobStatus::Running).await;
    world.wait_for_status(id, JobStatus::Completed).await;
    assert_eq!(world.job(long).await.status, JobStatus::Running);
    world.cancel(&tenant, long).await;
    world.wait_for_status(long, JobStatus::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asked_to_stop_finishes_what_it_can_and_hands_back_the_rest_uncharged() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let file = world.workers_file("concurrency = 64\ntimeout_seconds = 120", "concurrency = 20\ntimeout_seconds = 120");
    // lengths that leave a busy machine some seconds: one step of the slow jobs fits into the grace time, two do not
    let quick = world.submit(&tenant, &probe(1, 4_000), 5).await;
    let slow = world.submit(&tenant, &probe(2, 8_000), 55).await;
    let mut worker = world.process(&PROBES, &[("ATELIER_WORKERS_FILE", &file), ("ATELIER_WORKER_GRACE", "10")]);
    // claimed is not begun: what no handler has seen is handed back at once
    for id in &quick {
        eventually("each quick job to begin", async || begun_steps(&world, *id).await).await;
    }
    eventually("fifteen slow jobs to begin", async || {
        let mut begun = 0;
        for id in &slow {
            begun += usize::from(begun_steps(&world, *id).await.is_some());
        }
        (begun == 15).then_some(())
    })
    .await;

    assert!(worker.terminate(), "{}", worker.log());

    world.assert_each_ended_once(&quick, JobStatus::Completed, 1).await;
    assert_eq!(world.count(&slow, JobStatus::Queued).await, 55, "nothing is lost, nothing is left running");
    let mut begun = Vec::new();
    for id in &slow {
        let job = world.job(*id).await;
        assert_eq!((job.charged_attempts(), job.crashes, job.worker), (0, 0, None));
        if job.attempt == 1 {
            assert_eq!(job.errors[0]["code"], "handed_back");
            assert_eq!(world.steps(*id).await[0].status, StepStatus::Completed);
            begun.push(*id);
        }
    }
    assert_eq!(begun.len(), 15);
    let depth = world.queue("probes").depth().await.unwrap();
    assert_eq!((depth.ready + depth.delayed, depth.leased), (55, 0), "Redis knows that they wait");

    // without a scheduler: nobody has to repair anything
    let _next = world.worker(&["probes"]).await;
    world.wait_for_count(&slow, JobStatus::Completed, 55).await;
    world.assert_each_ended_once(&slow, JobStatus::Completed, 2).await;
    for id in &begun {
        assert_eq!(attempts(&world.steps(*id).await), [1, 2], "the finished step was not repeated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_die_one_after_the_other_lose_nothing() {
    let world = World::new().await;
    let tenant = world.tenant(1).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_SILENCE", "10")]).await;
    let ids = world.submit(&tenant, &probe(2, 100), 400).await;
    let _steady = world.worker(&["probes"]).await;
    for least in [40, 120] {
        let mut worker: Process = world.process(&PROBES, &[]);
        eventually("the process to hold jobs", async || worker.log().contains("attempt ended").then_some(())).await;
        world.wait_for_count(&ids, JobStatus::Completed, least).await;
        worker.kill();
    }
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 3).await;
}
