//! What every command stands on: where PostgreSQL and Redis are, and a connection.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use diesel_async::AsyncPgConnection;
use redis::aio::ConnectionManager;
use shared::{
    config::{Postgres, Reader, Redis},
    limits::Limits,
    models::Waiting,
    queue::Queue,
};

use crate::{config, up::environment_of};

/// How long Redis may take to answer; it is asked for figures and told hints, and nothing depends on it.
const PATIENCE: Duration = Duration::from_secs(2);

/// An installation.
pub(super) struct Ground {
    pub(super) conn: AsyncPgConnection,
    pub(super) limits: Limits,
    pub(super) password_policy: api::PasswordPolicy,
    pub(super) prefix: String,
    pub(super) redis: ConnectionManager,
    /// Where the settings come from, for people.
    source: String,
}

impl Ground {
    /// The installation of the environment, or of the `atelier up` whose folder is given, or that is used here.
    pub(super) async fn open(data: Option<&Path>) -> anyhow::Result<Self> {
        let mut from = Reader::from_env();
        let source = choose(&mut from, data)?;
        let postgres = Postgres::read(&mut from, 1);
        let redis = Redis::read(&mut from, PATIENCE);
        let limits = Limits::read(&mut from);
        let password_policy = from.or("ATELIER_PASSWORD_POLICY", api::PasswordPolicy::default());
        let (postgres, redis, limits) = from.finish((postgres, redis, limits))?;
        let conn = tokio::time::timeout(Duration::from_secs(10), shared::db::connect(postgres.url.expose())).await;
        let conn = conn.context("it does not answer").and_then(|made| Ok(made?));
        let conn = conn.with_context(|| {
            format!(
                "PostgreSQL cannot be reached (settings: {source}). Start it, or say where it is: DATABASE_URL in the \
                 environment, or --data with the folder of a running `atelier up`"
            )
        })?;
        Ok(Self { conn, limits, password_policy, prefix: redis.prefix.clone(), redis: redis.connect()?, source })
    }

    /// A queue of this installation.
    pub(super) fn queue(&self, name: &str) -> Queue {
        Queue::new(self.redis.clone(), &self.prefix, name)
    }

    /// Makes waiting jobs known to the workers. What is told if that did not work: nothing is lost by it.
    pub(super) async fn push(&self, jobs: &[Waiting]) -> Option<String> {
        let mut queues: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for job in jobs {
            queues.entry(&job.queue).or_default().push(job.ticket());
        }
        let mut remark = None;
        for (name, tickets) in queues {
            if let Err(error) = self.queue(name).push(&tickets).await {
                remark = Some(away(&error));
            }
        }
        remark
    }

    /// An error in words that help: a database without our tables is the wrong one, or was never prepared.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if format!("{error:#}").contains("relation \"") {
            let source = &self.source;
            return error.context(format!(
                "this database has no tables of this version (settings: {source}); `atelier scheduler prepare` \
                 brings them up to date"
            ));
        }
        error
    }
}

/// What is told when Redis was not reached.
pub(super) fn away(error: &impl std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("Redis was not told ({error}{cause}); the scheduler tells it as soon as it is back")
}

/// Decides whose settings count, and says whose.
fn choose(from: &mut Reader, data: Option<&Path>) -> anyhow::Result<String> {
    let named = ["DATABASE_URL", "REDIS_URL"].into_iter().any(|name| from.is_set(name));
    if named && data.is_none() {
        return Ok("the environment".to_owned());
    }
    let folder = data.map_or_else(config::default_data, Path::to_path_buf);
    let Some(settings) = environment_of(&folder)? else {
        match data {
            Some(_) => bail!("no `atelier up` was ever started with its data in {}", folder.display()),
            None => bail!(
                "there is no installation to look after: neither DATABASE_URL nor REDIS_URL is set, and no `atelier up` \
                 was started with its data in {}. Set both, or name its folder with --data",
                folder.display()
            ),
        }
    };
    for (name, value) in settings {
        // who names a folder means that one; otherwise what the environment says comes first
        if data.is_some() || !from.is_set(&name) {
            from.set(name, value);
        }
    }
    Ok(format!("{}", folder.display()))
}

/// The error for a name that nobody has.
pub(super) fn unknown(what: &str, name: &str, list: &str) -> anyhow::Error {
    anyhow!("there is no {what} {name:?}; `atelier admin {list}` shows what there is")
}
