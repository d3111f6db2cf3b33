//! Orchestrations whose worker is killed: they go on in the phase where it died, and nothing is asked for or done twice.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use crate::orchestration::sql;
use harness::{Fault, LlmPeer, Process, World, assert_whole, eventually};
use serde_json::{Value, json};
use shared::models::JobStatus;
use std::time::Duration;

fn worker(world: &World, llm_file: &str) -> Process {
    world.process(&["worker", "--pool", "pipelines"], &[("ATELIER_LLM_FILE", llm_file)])
}

/// Makes the silence of a worker that is dead as long as the scheduler wants it.
async fn let_the_silence_pass(world: &World) {
    world.run_sql("UPDATE jobs SET heartbeat_at = now() - interval '1 hour' WHERE status = 'running'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_is_killed_goes_on_in_the_same_phase() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    let llm_file = world.llm_file(&peer);
    let api = world.api_with(&[("ATELIER_LLM_FILE", &llm_file)]).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_RESCUE_EVERY", "1")]).await;
    let member = world.member(&api).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let data = json!({ "phases": ["a", "b", "c", "d"], "integrations": ["git"] });
    let template = world.template(&member, data).await;

    // the third call gets no answer from the first worker
    peer.fail_marked("Current phase: Phase 2:", 1, Fault::Hang);
    let mut process = worker(&world, &llm_file);
    let (id, _) = member.orchestrate(json!({ "project_id": project, "template_id": template })).await;
    eventually("the third phase", async || (peer.asked_for_phase(2) == 1).then_some(())).await;
    let before = member.orchestration(id).await;
    let statuses: Vec<_> = before["phases"].as_array().unwrap().iter().map(|phase| phase["status"].clone()).collect();
    assert_eq!(statuses, ["completed", "completed", "running", "pending"]);
    let waiting = before["integration_operations"].as_array().unwrap().iter().filter(|one| one["status"] == "pending");
    assert_eq!(waiting.count(), 4);
    process.kill();
    let_the_silence_pass(&world).await;
    let mut process = worker(&world, &llm_file);
    world.wait_for_status(id, JobStatus::Completed).await;

    assert_whole(&world.events(id).await, JobStatus::Completed);
    assert_eq!((0..4).map(|phase| peer.asked_for_phase(phase)).collect::<Vec<_>>(), [1, 1, 2, 1]);
    let after = member.orchestration(id).await;
    for phase in 0..2 {
        assert_eq!(after["phases"][phase], before["phases"][phase], "what was finished stays as it was");
    }
    assert_eq!(after["run"]["completed_phases"], 4);
    let usage = member.client.get("/usage?limit=100").await.expect(200);
    let paid = usage["data"].as_array().unwrap().iter().filter(|row| row["status"] == "completed").count();
    assert_eq!(paid, 4, "every phase is paid for once");
    let repository = member.client.get(&format!("/projects/{project}/repository")).await.expect(200);
    assert_eq!(repository["commits"], 4);
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["started"], &day["completed"]), (&json!(1), &json!(1)));
    assert_eq!((&day["file_system"], &day["git_operations"]), (&json!(4), &json!(4)));
    assert!(process.terminate());
    world.discard_deliveries().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_leave_one_commit_and_one_answer_of_each_phase() {
    let (world, peer) = (World::new().await, LlmPeer::start().await);
    peer.set_latency(Duration::from_millis(60));
    let llm_file = world.llm_file(&peer);
    let workers_file =
        world.workers_file("timeout_seconds = 3600\nattempts = 5", "timeout_seconds = 3600\nattempts = 100");
    let api = world.api_with(&[("ATELIER_LLM_FILE", &llm_file)]).await;
    let _scheduler = world.scheduler_with(&[("ATELIER_RESCUE_EVERY", "1")]).await;
    let member = world.member(&api).await;
    let project = world.project(&member, "Lamps", json!({})).await;
    let template = world.template(&member, json!({ "phases": ["a", "b", "c"], "integrations": ["git"] })).await;
    let settings = [("ATELIER_LLM_FILE", llm_file.as_str()), ("ATELIER_WORKERS_FILE", workers_file.as_str())];
    let start = || world.process(&["worker", "--pool", "pipelines"], &settings);
    let mut process = start();
    for run in 1..=3 {
        let (id, _) = member.orchestrate(json!({ "project_id": project, "template_id": template })).await;
        for _ in 0..4 {
            // at moments of no choice of ours
            tokio::time::sleep(Duration::from_millis(rand::random_range(10..400))).await;
            process.kill();
            let_the_silence_pass(&world).await;
            process = start();
        }
        world.wait_for_status(id, JobStatus::Completed).await;
        assert_whole(&world.events(id).await, JobStatus::Completed);
        let shown = member.orchestration(id).await;
        let done = |one: &Value| one["status"] == "completed";
        assert!(shown["phases"].as_array().unwrap().iter().all(done), "{shown}");
        assert!(shown["integration_operations"].as_array().unwrap().iter().all(done), "{shown}");
        let repository = member.client.get(&format!("/projects/{project}/repository")).await.expect(200);
        assert_eq!(repository["commits"], 3 * run);
    }
    assert_eq!(world.count_rows("usage_records WHERE status = 'completed'").await, 9, "each phase is paid for once");
    assert_eq!(world.count_rows("files").await, 9);
    let day = sql(&world, "SELECT to_jsonb(d) FROM orchestration_days d").await;
    assert_eq!((&day["file_system"], &day["git_operations"], &day["completed"]), (&json!(9), &json!(9), &json!(3)));
    assert!(process.terminate());
    world.discard_deliveries().await;
}
