//! `map`: a chain of nodes for each entry of a list. Every node of every chain is a step of its own, a part of the map's.

use super::{
    Flaw, Trouble, Wait, Walked,
    output::Output,
    scope::{Arrived, Scope},
    transform::at_path,
    walk,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use shared::{
    models::Failure,
    pipeline::{Definition, Kind, MAX_ITEMS, Map},
};
use std::{collections::HashMap, sync::Arc};

/// Entries at a time if the settings do not say.
const CONCURRENCY: usize = 4;

pub(super) fn run<'a>(
    scope: &'a Scope<'a>,
    name: &'a str,
    config: &'a Map,
    arrived: &'a Arrived,
) -> BoxFuture<'a, Result<Output, Trouble>> {
    async move {
        let entries = entries(config, arrived)?;
        if entries.len() > MAX_ITEMS {
            return Err(Trouble::lasting(format!("Its list has {} entries, more than {MAX_ITEMS}.", entries.len())));
        }
        let chains: Vec<_> = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| chain(scope, name, config, entry, index).boxed())
            .collect();
        let mut found: Vec<Value> = vec![Value::Null; chains.len()];
        let mut walks = stream::iter(chains).buffer_unordered(config.concurrency.unwrap_or(CONCURRENCY).clamp(1, 8));
        let mut waits: Option<Wait> = None;
        while let Some((index, walked)) = walks.next().await {
            match walked? {
                Walked::Done(outputs) => found[index] = ends(&config.chain, &outputs),
                Walked::Failed { failure, .. } => return Err(failed(failure)),
                // the others go on first
                Walked::Waiting(wait) => {
                    waits = Some(waits.filter(|earlier| earlier.until <= wait.until).unwrap_or(wait));
                }
            }
        }
        if let Some(wait) = waits {
            return Err(Trouble::Wait(wait));
        }
        let mut output = Output::json(Value::Array(found));
        output.metadata.insert("items".to_owned(), json!(output.json.as_ref().and_then(Value::as_array).map(Vec::len)));
        Ok(output)
    }
    .boxed()
}

async fn chain(
    scope: &Scope<'_>,
    name: &str,
    config: &Map,
    entry: Value,
    index: usize,
) -> (usize, Result<Walked, crate::outcome::Stop>) {
    let inner = Scope {
        run: scope.run,
        definition: &config.chain,
        prefix: format!("{name}[{index}]/"),
        entry: Some((Arc::new(Output::json(entry)), index)),
    };
    (index, walk(&inner).await)
}

/// A chain that failed may work when it is tried again, from the node that failed.
fn failed(failure: Failure) -> Trouble {
    let passing = matches!(failure.code.as_str(), "ai_service_error" | "node_timeout");
    Trouble::Node(Flaw { failure, passing })
}

/// The list.
fn entries(config: &Map, arrived: &Arrived) -> Result<Vec<Value>, Trouble> {
    let json = arrived.json();
    let json = match (&config.items, json) {
        (Some(path), Some(json)) => at_path(&json, path)?,
        (Some(_), None) => return Err(Trouble::lasting("Its input is no JSON, in which a path could be followed.")),
        (None, json) => json,
    };
    match (json, &config.separator) {
        (Some(Value::Array(entries)), _) => Ok(entries),
        (_, Some(separator)) => {
            let text = arrived.text();
            let entries = text.split(separator.as_str()).filter(|entry| !entry.trim().is_empty());
            Ok(entries.map(Value::from).collect())
        }
        (Some(single), None) if config.items.is_some() => Ok(vec![single]),
        (None, None) if config.items.is_some() => Ok(Vec::new()),
        (_, None) => Err(Trouble::lasting("Its input is no list.")),
    }
}

/// What a chain came to: its `output` nodes, else the nodes that nothing comes after.
fn ends(chain: &Definition, outputs: &HashMap<String, Arc<Output>>) -> Value {
    let named = chain.nodes.iter().filter(|node| matches!(node.kind, Kind::Output(_)));
    let mut ends: Vec<&str> = named.map(|node| node.id.as_str()).collect();
    if ends.is_empty() {
        let last = chain.nodes.iter().filter(|node| !chain.connections.iter().any(|c| c.source == node.id));
        ends.extend(last.map(|node| node.id.as_str()));
    }
    let data = |output: &Arc<Output>| output.json.clone().unwrap_or_else(|| Value::from(output.words()));
    let mut found: Vec<Value> = ends.iter().filter_map(|id| outputs.get(*id)).map(data).collect();
    match found.len() {
        0 => Value::Null,
        1 => found.remove(0),
        _ => Value::Array(found),
    }
}
