//! What the graph costs: runs of ten trivial nodes, and jobs that record ten steps and do nothing else.

use crate::{borrowed, provider, world};
use chrono::{DateTime, Utc};
use diesel::{dsl, prelude::*};
use diesel_async::RunQueryDsl;
use futures_util::{StreamExt, stream};
use harness::{World, eventually};
use serde_json::{Value, json};
use shared::{
    kind::{Kind, Probe},
    models::JobStatus,
    schema::jobs,
};

const RUNS: usize = 1_000;
const CLIENTS: usize = 32;
const NODES: u16 = 10;

pub(crate) async fn measure() {
    let (world, _api, member, settings) = world(&provider::catalogue(&provider::start())).await;
    let pipeline = member.client.post("/pipelines", chain()).await.expect(201);
    let path = format!("/pipelines/{}/run", pipeline["id"].as_str().unwrap());
    let submit = || {
        let runs = (0..RUNS).map(|_| member.client.post(&path, json!({"inputs": {"n0": {"text": "a"}}})));
        stream::iter(runs).buffer_unordered(CLIENTS).for_each(async |answer| {
            answer.expect(202);
        })
    };
    let tenant = world.tenant(1).await;
    // first all the work, then somebody to do it: how fast it comes in does not matter here
    submit().await;
    world.submit(&tenant, &Probe { steps: NODES, hold_ms: 0 }, RUNS).await;
    for (what, pool, kind) in [
        ("jobs with ten recorded steps", "probes", Kind::Probe),
        ("runs of a pipeline with ten nodes", "pipelines", Kind::PipelineRun),
    ] {
        let _worker = world.process(&["worker", "--pool", pool], &borrowed(&settings));
        println!("{what:<56} {:>8.0}/s", rate(&world, kind).await);
    }
}

/// An input, eight changes of case, an output.
fn chain() -> Value {
    let last = NODES - 1;
    let node = |number: u16| match number {
        0 => json!({"id": "n0", "type": "input"}),
        _ if number == last => json!({"id": format!("n{number}"), "type": "output"}),
        _ => json!({"id": format!("n{number}"), "type": "transform", "config": {"operation": "upper"}}),
    };
    let connection = |number: u16| json!({"source": format!("n{number}"), "target": format!("n{}", number + 1)});
    json!({
        "name": "Ten nodes",
        "nodes": (0..NODES).map(node).collect::<Vec<_>>(),
        "connections": (0..last).map(connection).collect::<Vec<_>>(),
    })
}

/// Jobs of this kind that ended in a second, between the first start and the last end.
async fn rate(world: &World, kind: Kind) -> f64 {
    let open = || jobs::table.filter(jobs::kind.eq(kind).and(jobs::finished_at.is_null())).count();
    eventually("all jobs of a kind to end", async || {
        let left: i64 = open().get_result(&mut world.conn().await).await.ok()?;
        (left == 0).then_some(())
    })
    .await;
    let ended = jobs::table.filter(jobs::kind.eq(kind).and(jobs::status.eq(JobStatus::Completed)));
    let (count, first, last): (i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>) = ended
        .select((dsl::count_star(), dsl::min(jobs::started_at), dsl::max(jobs::finished_at)))
        .get_result(&mut world.conn().await)
        .await
        .unwrap();
    assert_eq!(usize::try_from(count).unwrap(), RUNS, "every job ended well");
    f64::from(u32::try_from(count).unwrap()) / (last.unwrap() - first.unwrap()).as_seconds_f64()
}
