//! What the platform adds to answers of language models and to pipelines, measured on this machine: API, worker process,
//! PostgreSQL, Redis and a provider that answers at once.
//!
//! `cargo bench --workspace --bench ai` starts all it needs. Each number stands beside a plain one of the same run.
#![expect(clippy::unwrap_used, reason = "a measurement may stop at a broken assumption")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod pipelines;
mod provider;
mod relay;
mod starts;

use diesel_async::RunQueryDsl;
use harness::{Api, Member, World};
use std::time::Duration;

#[tokio::main]
async fn main() {
    starts::measure().await;
    println!();
    relay::measure().await;
    println!();
    pipelines::measure().await;
}

/// A world with an API, an organization without limits, and the settings that its worker needs, too.
async fn world(models: &str) -> (World, Api, Member, Vec<(String, String)>) {
    let world = World::new().await;
    let file = world.servers.folder().join(format!("{}-llm.toml", world.prefix));
    std::fs::write(&file, models).unwrap();
    let settings = vec![
        ("ATELIER_LLM_FILE".to_owned(), file.display().to_string()),
        ("ATELIER_RATE_LIMITS".to_owned(), "off".to_owned()),
    ];
    let api = world.api_with(&borrowed(&settings)).await;
    let member = world.member(&api).await;
    diesel::sql_query("UPDATE organizations SET subscription_tier = 'enterprise'")
        .execute(&mut *world.conn().await)
        .await
        .unwrap();
    (world, api, member, settings)
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// One line: median and 99th percentile.
fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<56} p50 {:>7.2} ms   p99 {:>7.2} ms   ({} times)", at(50), at(99), times.len());
}
