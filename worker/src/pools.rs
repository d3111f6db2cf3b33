//! workers.toml: which queues a worker serves, how many jobs at once, how long, and how often again.

use serde::Deserialize;
use shared::kind::Kind;
use std::{collections::BTreeMap, ops::Range, path::Path, time::Duration};
use toml::Spanned;

/// The file that ships with the program and explains itself.
const BUILT_IN: &str = include_str!("../../workers.toml");

/// The pools that this process runs.
#[derive(Debug, Clone, Default)]
pub struct Pools(BTreeMap<String, Pool>);

/// Queues served together, under the same rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The queues.
    pub queues: Vec<String>,
    /// Jobs in work at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts after which a job fails for good.
    pub attempts: i32,
    /// How long to wait before another attempt.
    pub backoff: Backoff,
}

/// Exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// Upper bound of the first wait, in milliseconds.
    pub first_ms: u64,
    /// Upper bound of every wait, in milliseconds.
    pub max_ms: u64,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct PoolsError {
    file: String,
    line: Option<usize>,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pools: BTreeMap<Spanned<String>, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    queues: Spanned<Vec<Spanned<String>>>,
    concurrency: Spanned<usize>,
    timeout_seconds: Spanned<u64>,
    attempts: Spanned<i32>,
    backoff: Spanned<Backoff>,
}

impl Pools {
    /// Reads `file`, or the built-in one, checks the whole of it, and keeps the pools in `wanted` (none: all).
    ///
    /// # Errors
    /// The first problem, with its line and what to do.
    pub fn load(file: Option<&Path>, wanted: &[String]) -> Result<Self, PoolsError> {
        match file {
            None => Self::parse("the built-in workers.toml", BUILT_IN, wanted),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| PoolsError {
                    file: name.clone(),
                    line: None,
                    problem: format!("{error}; ATELIER_WORKERS_FILE names it"),
                })?;
                Self::parse(&name, &text, wanted)
            }
        }
    }

    fn parse(file: &str, text: &str, wanted: &[String]) -> Result<Self, PoolsError> {
        let line = |span: Range<usize>| text[..span.start.min(text.len())].matches('\n').count() + 1;
        let problem = |span: Option<Range<usize>>, problem: String| PoolsError {
            file: file.to_owned(),
            line: span.map(line),
            problem,
        };
        let parsed: File = toml::from_str(text).map_err(|error| problem(error.span(), error.message().to_owned()))?;
        check_queues(&parsed).map_err(|(span, text)| problem(span, text))?;
        let mut pools = BTreeMap::new();
        for (name, entry) in parsed.pools {
            let pool = entry.check().map_err(|(span, text)| problem(Some(span), text))?;
            pools.insert(name.into_inner(), pool);
        }
        if let Some(unknown) = wanted.iter().find(|name| !pools.contains_key(*name)) {
            let known = pools.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(problem(None, format!("there is no pool {unknown:?}; --pool takes one of: {known}")));
        }
        if !wanted.is_empty() {
            pools.retain(|name, _| wanted.contains(name));
        }
        Ok(Self(pools))
    }

    /// The names of the pools to run.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The pools to run, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Pool)> {
        self.0.iter().map(|(name, pool)| (name.as_str(), pool))
    }

    /// Whether any of the pools to run serves this queue.
    pub fn serves(&self, queue: &str) -> bool {
        self.0.values().any(|pool| pool.queues.iter().any(|served| served == queue))
    }
}

type Problem<S> = (S, String);

/// Every queue exists, and belongs to exactly one pool.
fn check_queues(file: &File) -> Result<(), Problem<Option<Range<usize>>>> {
    let known = Kind::queues();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (pool, entry) in &file.pools {
        for queue in entry.queues.get_ref() {
            let name = queue.get_ref().as_str();
            if !known.contains(&name) {
                let hint = format!("there is no queue {name:?}; the queues are: {}", known.join(", "));
                return Err((Some(queue.span()), hint));
            }
            if let Some(other) = owners.insert(name, pool.get_ref()) {
                let hint = format!(
                    "the queue {name:?} is already in the pool {other:?}; a queue belongs to one pool, so that its \
                     jobs have one timeout and one number of attempts"
                );
                return Err((Some(queue.span()), hint));
            }
        }
    }
    match known.iter().find(|queue| !owners.contains_key(*queue)) {
        None => Ok(()),
        Some(queue) => Err((None, format!("no pool serves the queue {queue:?}, so its jobs would wait for ever"))),
    }
}

impl Entry {
    fn check(self) -> Result<Pool, Problem<Range<usize>>> {
        if self.queues.get_ref().is_empty() {
            return Err((self.queues.span(), "a pool needs at least one queue".to_owned()));
        }
        if !(1..=1024).contains(self.concurrency.get_ref()) {
            return Err((self.concurrency.span(), "concurrency is from 1 to 1024".to_owned()));
        }
        if !(1..=86_400).contains(self.timeout_seconds.get_ref()) {
            return Err((self.timeout_seconds.span(), "timeout_seconds is from 1 to 86400".to_owned()));
        }
        if !(1..=100).contains(self.attempts.get_ref()) {
            return Err((self.attempts.span(), "attempts is from 1 to 100".to_owned()));
        }
        let backoff = *self.backoff.get_ref();
        if backoff.first_ms == 0 || backoff.first_ms > backoff.max_ms {
            let hint = format!(
                "backoff.first_ms ({}) is at least 1 and at most backoff.max_ms ({})",
                backoff.first_ms, backoff.max_ms
            );
            return Err((self.backoff.span(), hint));
        }
        Ok(Pool {
            queues: self.queues.into_inner().into_iter().map(Spanned::into_inner).collect(),
            concurrency: self.concurrency.into_inner(),
            timeout: Duration::from_secs(self.timeout_seconds.into_inner()),
            attempts: self.attempts.into_inner(),
            backoff,
        })
    }
}

impl Backoff {
    /// The wait before the retry after `attempt` failed ones: anything up to `first_ms` doubled each time, at most
    /// `max_ms`. Full jitter spreads jobs that failed together (AWS, "Exponential Backoff And Jitter").
    pub fn wait(self, attempt: u32) -> Duration {
        let doubled = self.first_ms.saturating_mul(1 << attempt.saturating_sub(1).min(32));
        Duration::from_millis(rand::random_range(0..=doubled.min(self.max_ms)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn refusal(change: impl Fn(&str) -> String) -> String {
        Pools::parse("workers.toml", &change(BUILT_IN), &[]).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_file_serves_every_queue() {
        let pools = Pools::load(None, &[]).unwrap();
        for queue in Kind::queues() {
            assert!(pools.serves(queue), "{queue}");
        }
    }

    #[test]
    fn a_pool_is_chosen_by_name_and_an_unknown_one_is_refused() {
        let chosen = Pools::load(None, &["images".to_owned()]).unwrap();
        assert_eq!(chosen.names(), ["images"]);
        let error = Pools::load(None, &["image".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("--pool takes one of: deliveries, images, interactive, mails, pipelines, probes"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = refusal(|text| text.replacen("concurrency = 8", "concurency = 8", 1));
        let line = BUILT_IN.lines().position(|line| line == "concurrency = 8").unwrap() + 1;
        assert!(error.starts_with(&format!("workers.toml line {line}: unknown field `concurency`")), "{error}");
    }

    #[test]
    fn contradictions_are_refused_with_a_hint() {
        let twice = refusal(|text| text.replacen("[\"probes\"]", "[\"probes\", \"images\"]", 1));
        assert!(twice.contains("belongs to one pool"), "{twice}");
        let unserved = refusal(|text| text.replacen("[\"probes\"]", "[]", 1));
        assert!(unserved.contains("no pool serves the queue \"probes\""), "{unserved}");
        let backwards = refusal(|text| text.replacen("max_ms = 60_000", "max_ms = 10", 1));
        assert!(backwards.contains("backoff.first_ms (1000)"), "{backwards}");
        let never = refusal(|text| text.replacen("attempts = 5", "attempts = 0", 1));
        assert!(never.contains("attempts is from 1 to 100"), "{never}");
    }

    #[test]
    fn waits_grow_up_to_the_limit_and_are_spread() {
        let backoff = Backoff { first_ms: 100, max_ms: 1_000 };
        let waits: Vec<_> = (0..200).map(|_| backoff.wait(3).as_millis()).collect();
        assert!(waits.iter().all(|wait| *wait <= 400));
        assert!(waits.iter().any(|wait| *wait > 200) && waits.iter().any(|wait| *wait < 200));
        assert!(backoff.wait(u32::MAX) <= Duration::from_millis(1_000));
    }
}
