//! How long a question waits for a worker while other work waits in thousands.

use crate::{borrowed, provider, row, world};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use harness::{Member, World};
use serde_json::json;
use shared::{
    kind::{Kind, Probe},
    models::JobStatus,
    schema::jobs,
};
use std::time::Duration;
use uuid::Uuid;

const QUESTIONS: usize = 200;
/// More than are to wait, since some are done meanwhile.
const BULK: usize = 20_000;
const WAITING: i64 = 5_000;
/// Four steps, each recorded as those of a real job are.
const WORK: Probe = Probe { steps: 4, hold_ms: 50 };

pub(crate) async fn measure() {
    let (world, _api, member, settings) = world(&provider::catalogue(&provider::start())).await;
    let pools = ["worker", "--pool", "interactive", "--pool", "probes"];
    let mut worker = world.process(&pools, &borrowed(&settings));
    ask(&member, 50).await; // warm
    let quiet = starts(&world, &ask(&member, QUESTIONS).await).await;
    row("from question to start, nothing else to do", quiet);

    let tenant = world.tenant(1).await;
    world.submit(&tenant, &WORK, BULK).await;
    let busy = starts(&world, &ask(&member, QUESTIONS).await).await;
    let waiting = jobs::table.filter(jobs::kind.eq(Kind::Probe).and(jobs::status.eq(JobStatus::Queued))).count();
    let waiting: i64 = waiting.get_result(&mut world.conn().await).await.unwrap();
    row(&format!("from question to start, {waiting} to {BULK} jobs waiting"), busy);
    // what still waits has served its purpose
    worker.kill();
    diesel::delete(jobs::table.filter(jobs::kind.eq(Kind::Probe))).execute(&mut world.conn().await).await.unwrap();
    assert!(waiting >= WAITING, "only {waiting} jobs still waited at the end: this machine needs more of them");
}

/// Asks one question after the other; returns the jobs that answered.
async fn ask(member: &Member, count: usize) -> Vec<Uuid> {
    let mut asked = Vec::new();
    for _ in 0..count {
        let question = json!({"model": "bench", "messages": [{"role": "user", "content": "?"}]});
        let answer = member.client.post("/ai/chat", question).await.expect(200);
        asked.push(answer["id"].as_str().unwrap().parse().unwrap());
    }
    asked
}

/// From the row of each job to its first attempt, by the clock of the database.
async fn starts(world: &World, ids: &[Uuid]) -> Vec<Duration> {
    let times: Vec<(DateTime<Utc>, Option<DateTime<Utc>>)> = jobs::table
        .filter(jobs::id.eq_any(ids))
        .select((jobs::created_at, jobs::started_at))
        .load(&mut world.conn().await)
        .await
        .unwrap();
    assert_eq!(times.len(), ids.len());
    times.into_iter().map(|(created, started)| (started.unwrap() - created).to_std().unwrap()).collect()
}
