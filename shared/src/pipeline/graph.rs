//! Whether connections form a circle.

use super::Definition;
use std::collections::HashMap;

/// The nodes of a circle, the first of them again at the end.
pub(super) fn circle(definition: &Definition) -> Option<Vec<String>> {
    let mut sources_left: HashMap<&str, usize> = definition.nodes.iter().map(|node| (node.id.as_str(), 0)).collect();
    let mut targets: HashMap<&str, Vec<&str>> = HashMap::new();
    for connection in &definition.connections {
        *sources_left.entry(&connection.target).or_default() += 1;
        targets.entry(&connection.source).or_default().push(&connection.target);
    }
    // takes away what has no source left, until only circles and what is behind them is there
    let mut free: Vec<&str> = sources_left.iter().filter(|(_, left)| **left == 0).map(|(id, _)| *id).collect();
    while let Some(id) = free.pop() {
        sources_left.remove(id);
        for target in targets.get(id).into_iter().flatten() {
            if let Some(left) = sources_left.get_mut(target) {
                *left -= 1;
                if *left == 0 {
                    free.push(target);
                }
            }
        }
    }
    // each node that is left has a source that is left: going back from any of them must come to one again
    let source = |id: &str| {
        let back = |connection: &&super::Connection| {
            connection.target == id && sources_left.contains_key(connection.source.as_str())
        };
        definition.connections.iter().find(back).map(|connection| connection.source.as_str())
    };
    let mut at = definition.nodes.iter().map(|node| node.id.as_str()).find(|id| sources_left.contains_key(id))?;
    let mut way = vec![at];
    loop {
        at = source(at)?;
        if let Some(start) = way.iter().position(|id| *id == at) {
            let mut circle: Vec<String> = way[start..].iter().rev().map(|id| (*id).to_owned()).collect();
            circle.extend(circle.first().cloned());
            return Some(circle);
        }
        way.push(at);
    }
}
