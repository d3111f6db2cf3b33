//! What a run shares, what a graph within it knows, and what arrives at a node.

use super::{
    output::{Image, Output, Spent},
    ran::Ran,
};
use crate::{context::Context, reporter::Reporter};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::{models::StepKey, pipeline::Definition};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Nodes of a run at a time.
const AT_ONCE: usize = 8;

/// What all nodes of a run share.
pub(crate) struct Run<'a> {
    pub(crate) reporter: &'a Reporter<'a>,
    pub(crate) context: &'a Context,
    /// What is run.
    pub(crate) ran: Ran<'a>,
    /// Who started it.
    pub(crate) user_id: Uuid,
    /// Input node → what the run was given.
    pub(crate) inputs: &'a Map<String, Value>,
    /// The nodes of the pipeline itself, whose inputs every chain may name.
    pub(crate) definition: &'a Definition,
    /// Taken by nodes that work.
    pub(super) slots: Semaphore,
    /// Step name → what became of it in this attempt. A map that waited, or is tried again, goes on from there.
    parts: Mutex<HashMap<String, Part>>,
    tokens: AtomicI64,
    nanos: AtomicI64,
    executed: AtomicI64,
}

/// What became of a node of a chain.
#[derive(Clone)]
pub(super) enum Part {
    /// It began, and has not ended.
    Begun(DateTime<Utc>),
    /// It is recorded.
    Done(Arc<Output>),
    /// It is not to run.
    Skipped,
}

/// A graph within a run: the pipeline, or the chain of a `map` for one entry.
pub(crate) struct Scope<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) definition: &'a Definition,
    /// Before the names of its steps; empty for the pipeline itself.
    pub(crate) prefix: String,
    /// The entry and its index.
    pub(crate) entry: Option<(Arc<Output>, usize)>,
}

/// What arrives at a node.
#[derive(Default)]
pub(crate) struct Arrived {
    /// From its sources, in the order of the connections.
    pub(super) sources: Vec<(String, Arc<Output>)>,
    /// From all nodes that it can name.
    pub(super) known: HashMap<String, Arc<Output>>,
    /// When the node began, the same in every attempt.
    pub(super) since: DateTime<Utc>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        reporter: &'a Reporter<'a>,
        ran: Ran<'a>,
        user_id: Uuid,
        inputs: &'a Map<String, Value>,
        definition: &'a Definition,
    ) -> Self {
        Self {
            reporter,
            context: reporter.context,
            ran,
            user_id,
            inputs,
            definition,
            slots: Semaphore::new(AT_ONCE),
            parts: Mutex::default(),
            tokens: AtomicI64::new(0),
            nanos: AtomicI64::new(0),
            executed: AtomicI64::new(0),
        }
    }

    pub(super) fn count(&self, spent: Spent) {
        self.tokens.fetch_add(spent.tokens, Ordering::Relaxed);
        self.nanos.fetch_add(spent.nanos, Ordering::Relaxed);
        self.executed.fetch_add(1, Ordering::Relaxed);
    }

    /// What this attempt used, and how many nodes it ran to their end.
    pub(crate) fn counted(&self) -> (Spent, i64) {
        let spent = Spent { tokens: self.tokens.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) };
        (spent, self.executed.load(Ordering::Relaxed))
    }
}

impl Scope<'_> {
    /// Notes what became of a node of a chain.
    pub(super) fn note(&self, name: &str, part: Part) {
        if self.entry.is_some() {
            self.parts().insert(name.to_owned(), part);
        }
    }

    /// What became of a node of a chain earlier in this attempt.
    pub(super) fn noted(&self, name: &str) -> Option<Part> {
        self.entry.is_some().then(|| self.parts().get(name).cloned()).flatten()
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<String, Part>> {
        self.run.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a node's step.
    pub(super) fn step_name(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The step of the node at this place.
    pub(super) fn key<'k>(&self, name: &'k str, place: usize) -> StepKey<'k> {
        let position = if self.entry.is_some() { -1 } else { i16::try_from(place).unwrap_or(i16::MAX) };
        StepKey { item: Uuid::nil(), name, position }
    }
}

impl Arrived {
    /// The texts, joined.
    pub(super) fn text(&self) -> String {
        self.joined("\n\n")
    }

    pub(super) fn joined(&self, separator: &str) -> String {
        let texts: Vec<&str> = self.sources.iter().map(|(_, output)| output.words()).collect();
        texts.join(separator)
    }

    /// The data of an only source; of several, or of one that has none, the text if it reads as JSON.
    pub(super) fn json(&self) -> Option<Value> {
        if let [(_, only)] = self.sources.as_slice()
            && let Some(json) = &only.json
        {
            return Some(json.clone());
        }
        serde_json::from_str(&self.text()).ok()
    }

    /// The first image.
    pub(super) fn image(&self) -> Option<&Image> {
        self.sources.iter().find_map(|(_, output)| output.image.as_ref())
    }

    /// Handed on as it is.
    pub(super) fn pass(&self) -> Output {
        let json = match self.sources.as_slice() {
            [(_, only)] => only.json.clone(),
            _ => None,
        };
        Output { json, image: self.image().cloned(), ..Output::text(self.text()) }
    }
}
