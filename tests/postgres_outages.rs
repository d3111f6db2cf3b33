//! PostgreSQL away for a while: running handlers wait with their writes, and nothing that was done is done again.

use harness::World;
use shared::{
    kind::Probe,
    models::{JobStatus, StepStatus},
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_running_jobs_wait_and_no_step_is_repeated() {
    let world = World::with_own_postgres().await;
    let tenant = world.tenant(1).await;
    let (_scheduler, _worker) = (world.scheduler().await, world.worker(&["probes"]).await);
    let ids = world.submit(&tenant, &Probe { steps: 4, hold_ms: 1_000 }, 100).await;
    world.wait_for_count(&ids, JobStatus::Running, 60).await;

    world.postgres_server(|postgres| postgres.stop());
    // the outage itself: longer than the steps that run, and than a worker may be silent
    tokio::time::sleep(Duration::from_secs(18)).await;
    world.postgres_server(|postgres| postgres.start_again());

    // what the test itself had open is gone as well
    while world.pool.get().await.is_err() {}
    world.wait_for_count(&ids, JobStatus::Completed, ids.len()).await;
    world.assert_each_ended_once(&ids, JobStatus::Completed, 1).await;
    for id in &ids {
        let steps = world.steps(*id).await;
        assert!(steps.iter().all(|step| (step.attempt, step.status) == (1, StepStatus::Completed)), "{steps:?}");
    }
}
