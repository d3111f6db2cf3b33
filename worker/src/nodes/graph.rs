//! Which node runs when: each as soon as all its sources are done, independent ones side by side, those behind a branch
//! that was not taken not at all.

use super::{
    Wait,
    attempt::{self, Ended},
    output::Output,
    scope::{Arrived, Part, Scope},
};
use crate::outcome::{Outcome, Stop};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Value, json};
use shared::{
    models::Failure,
    pipeline::{Connection, Kind},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// A shorter wait is not worth giving the job back for.
const SHORT: Duration = Duration::from_secs(2);

/// How a walk through a graph ended.
pub(crate) enum Walked {
    /// Every node ended or was skipped; the outputs by node.
    Done(HashMap<String, Arc<Output>>),
    /// A node failed, and so does the run.
    Failed {
        /// Which.
        node: String,
        /// Why.
        failure: Failure,
    },
    /// Nothing can go on before then.
    Waiting(Wait),
}

impl Walked {
    /// What the job comes to; `done` makes its result of the outputs.
    pub(crate) fn into_outcome(self, done: impl FnOnce(&HashMap<String, Arc<Output>>) -> Value) -> Outcome {
        match self {
            Self::Done(outputs) => Outcome::Done(done(&outputs)),
            Self::Failed { node, failure } => Outcome::Fail { failure, result: Some(json!({ "node_id": node })) },
            Self::Waiting(wait) => Outcome::Retry {
                after: Some((wait.until - Utc::now()).to_std().unwrap_or_default()),
                charge: false,
                failure: Failure { code: "waiting".to_owned(), message: format!("The run waits: {}", wait.reason) },
            },
        }
    }
}

enum State {
    Open,
    /// When it began, if it waited before.
    Again(DateTime<Utc>),
    Running,
    Waiting(Wait, DateTime<Utc>),
    Done(Arc<Output>),
    Skipped,
}

/// What is to be done with a node that is open.
enum Next {
    Nothing,
    Skip,
    Start,
}

/// Walks through a graph from where earlier attempts left it.
///
/// Boxed: a `map` walks through its chain, and through such a circle the compiler cannot see what is `Send`.
pub(crate) fn walk<'a>(scope: &'a Scope<'a>) -> BoxFuture<'a, Result<Walked, Stop>> {
    async move {
        let mut graph = Graph::take_up(scope).await?;
        let mut running = FuturesUnordered::new();
        loop {
            for (place, started_at) in graph.ready().await? {
                let arrived = graph.arrived(place);
                running.push(async move { (place, attempt::run(scope, place, arrived, started_at).await) });
            }
            let earliest = graph.earliest();
            if running.is_empty() {
                let Some((wait, left)) = earliest else { break };
                // whoever walks through a chain has others to wait for
                if left > SHORT || scope.entry.is_some() {
                    return Ok(Walked::Waiting(wait));
                }
                tokio::time::sleep(left).await;
                graph.wake();
                continue;
            }
            let due = async {
                match earliest {
                    Some((_, left)) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((place, ended)) = running.next() => match ended? {
                    Ended::Done(output) => graph.states[place] = State::Done(output),
                    Ended::Wait(wait, started_at) => graph.states[place] = State::Waiting(wait, started_at),
                    // the others are dropped: what they would find is of no use any more
                    Ended::Failed(failure) => {
                        return Ok(Walked::Failed { node: scope.definition.nodes[place].id.clone(), failure });
                    }
                },
                () = due => graph.wake(),
            }
        }
        Ok(Walked::Done(graph.outputs()))
    }
    .boxed()
}

struct Graph<'a> {
    scope: &'a Scope<'a>,
    states: Vec<State>,
    /// By node: the connections that lead to it, each with the place of its source.
    incoming: Vec<Vec<(usize, &'a Connection)>>,
}

impl<'a> Graph<'a> {
    async fn take_up(scope: &'a Scope<'a>) -> Result<Self, Stop> {
        let definition = scope.definition;
        let places: HashMap<&str, usize> =
            definition.nodes.iter().zip(0..).map(|(node, place)| (node.id.as_str(), place)).collect();
        let mut incoming: Vec<Vec<(usize, &Connection)>> = definition.nodes.iter().map(|_| Vec::new()).collect();
        for connection in &definition.connections {
            if let (Some(source), Some(target)) =
                (places.get(connection.source.as_str()), places.get(connection.target.as_str()))
            {
                incoming[*target].push((*source, connection));
            }
        }
        let mut states = Vec::with_capacity(definition.nodes.len());
        for (node, place) in definition.nodes.iter().zip(0..) {
            let name = scope.step_name(&node.id);
            let key = scope.key(&name, place);
            let state = match (scope.noted(&name), scope.run.reporter.finished::<Output>(key)) {
                (Some(Part::Done(output)), _) => State::Done(output),
                (Some(Part::Skipped), _) => State::Skipped,
                (Some(Part::Begun(started_at)), _) => State::Again(started_at),
                (None, Some((output, _))) => State::Done(Arc::new(output.load(scope.run.context).await?)),
                (None, None) if scope.run.reporter.was_skipped(key) => State::Skipped,
                (None, None) => State::Open,
            };
            states.push(state);
        }
        Ok(Self { scope, states, incoming })
    }

    /// The nodes that are to be started, marked as running. Records those that are skipped.
    async fn ready(&mut self) -> Result<Vec<(usize, Option<DateTime<Utc>>)>, Stop> {
        let mut ready = Vec::new();
        loop {
            let mut skipped = false;
            for place in 0..self.states.len() {
                let started_at = match &self.states[place] {
                    State::Open => None,
                    State::Again(started_at) => Some(*started_at),
                    State::Running | State::Waiting(..) | State::Done(_) | State::Skipped => continue,
                };
                match self.next(place) {
                    Next::Nothing => {}
                    Next::Start => {
                        self.states[place] = State::Running;
                        ready.push((place, started_at));
                    }
                    Next::Skip => {
                        let name = self.scope.step_name(&self.scope.definition.nodes[place].id);
                        self.scope.run.reporter.skip(self.scope.key(&name, place)).await?;
                        self.scope.note(&name, Part::Skipped);
                        self.states[place] = State::Skipped;
                        skipped = true;
                    }
                }
            }
            // what is skipped may decide about nodes that were looked at before
            if !skipped {
                return Ok(ready);
            }
        }
    }

    fn next(&self, place: usize) -> Next {
        let incoming = &self.incoming[place];
        let mut taken = incoming.is_empty();
        for (source, connection) in incoming {
            match &self.states[*source] {
                State::Done(output) => taken |= is_taken(connection, output),
                State::Skipped => {}
                State::Open | State::Again(_) | State::Running | State::Waiting(..) => return Next::Nothing,
            }
        }
        if taken { Next::Start } else { Next::Skip }
    }

    /// What arrives at a node whose sources are done: their outputs, or in a chain the entry.
    fn arrived(&self, place: usize) -> Arrived {
        let nodes = &self.scope.definition.nodes;
        let mut sources: Vec<(String, Arc<Output>)> = Vec::new();
        for (source, connection) in &self.incoming[place] {
            if let State::Done(output) = &self.states[*source]
                && is_taken(connection, output)
                && !sources.iter().any(|(id, _)| *id == nodes[*source].id)
            {
                sources.push((nodes[*source].id.clone(), output.clone()));
            }
        }
        if let Some((entry, _)) = &self.scope.entry
            && self.incoming[place].is_empty()
        {
            sources.push(("item".to_owned(), entry.clone()));
        }
        // what it can name is what had to be done before it, so that it is the same in every attempt
        let mut seen = HashSet::new();
        let mut open = vec![place];
        let mut known = HashMap::new();
        while let Some(at) = open.pop() {
            for (source, _) in &self.incoming[at] {
                if seen.insert(*source) {
                    open.push(*source);
                    if let State::Done(output) = &self.states[*source] {
                        known.insert(nodes[*source].id.clone(), output.clone());
                    }
                }
            }
        }
        // inputs are known from the start
        for node in &self.scope.run.definition.nodes {
            if let Kind::Input(config) = &node.kind
                && !known.contains_key(&node.id)
                && let Ok(output) = super::input::value(self.scope.run, &node.id, config)
            {
                known.insert(node.id.clone(), Arc::new(output));
            }
        }
        Arrived { sources, known, since: DateTime::default() }
    }

    /// What waits shortest, and how long.
    fn earliest(&self) -> Option<(Wait, Duration)> {
        let waits = self.states.iter().filter_map(|state| match state {
            State::Waiting(wait, _) => Some(wait),
            State::Open | State::Again(_) | State::Running | State::Done(_) | State::Skipped => None,
        });
        let wait = waits.min_by_key(|wait| wait.until)?;
        Some((wait.clone(), (wait.until - Utc::now()).to_std().unwrap_or_default()))
    }

    /// Opens what has waited long enough.
    fn wake(&mut self) {
        let now = Utc::now();
        for state in &mut self.states {
            if let State::Waiting(wait, started_at) = state
                && wait.until <= now
            {
                *state = State::Again(*started_at);
            }
        }
    }

    fn outputs(&self) -> HashMap<String, Arc<Output>> {
        let nodes = self.scope.definition.nodes.iter();
        let done = nodes.zip(&self.states).filter_map(|(node, state)| match state {
            State::Done(output) => Some((node.id.clone(), output.clone())),
            State::Open | State::Again(_) | State::Running | State::Waiting(..) | State::Skipped => None,
        });
        done.collect()
    }
}

/// Whether something goes through a connection whose source is done.
fn is_taken(connection: &Connection, output: &Output) -> bool {
    match output.branch {
        None => true,
        Some(branch) => connection.source_handle == if branch { "true" } else { "false" },
    }
}
