//! From what is stored, or is to be stored, to a definition; every problem at once.

use super::{
    Connection, Definition, Findings, Kind, MAX_CONNECTIONS, MAX_ID, MAX_NODES, Node, Problem, Refusal, Settings,
    graph,
    kind::{WORDS, config_of},
};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

impl Definition {
    /// Reads what is stored, or is to be stored.
    ///
    /// # Errors
    /// Every problem at once; a circle only if there is nothing else.
    pub fn read(nodes: &Value, connections: &Value) -> Result<Self, Refusal> {
        read(nodes, connections, "")
    }
}

/// As [`Definition::read`], with `prefix` before each path.
pub(super) fn read(nodes: &Value, connections: &Value, prefix: &str) -> Result<Definition, Refusal> {
    let mut reader = ReadThrough { prefix, problems: Vec::new() };
    let nodes_given = reader.list("nodes", nodes, MAX_NODES);
    let connections_given = reader.list("connections", connections, MAX_CONNECTIONS);
    let mut ids = HashSet::new();
    // by id; a node that does not read has no handles that could be checked
    let mut known: HashMap<String, Option<usize>> = HashMap::new();
    let mut nodes = Vec::with_capacity(nodes_given.len());
    for (value, index) in nodes_given.iter().zip(0..) {
        let (id, node) = reader.node(value, index, &mut ids);
        let place = node.map(|node| {
            nodes.push(node);
            nodes.len() - 1
        });
        if let Some(id) = id {
            known.entry(id).or_insert(place);
        }
    }
    let mut connection_ids = HashSet::new();
    let connections = (0..)
        .zip(connections_given)
        .filter_map(|(index, value)| reader.connection(value, index, &nodes, &known, &mut connection_ids))
        .collect();
    if !reader.problems.is_empty() {
        return Err(Refusal::Invalid(reader.problems));
    }
    let definition = Definition { nodes, connections };
    match graph::circle(&definition) {
        Some(circle) => Err(Refusal::Cyclic(circle)),
        None => Ok(definition),
    }
}

struct ReadThrough<'a> {
    prefix: &'a str,
    problems: Vec<Problem>,
}

impl ReadThrough<'_> {
    fn note(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}{field}", self.prefix), message));
    }

    fn list<'v>(&mut self, field: &str, value: &'v Value, most: usize) -> &'v [Value] {
        match value.as_array() {
            Some(list) if list.len() <= most => list,
            Some(_) => {
                self.note(field, format!("has more than {most} entries"));
                &[]
            }
            None => {
                self.note(field, "is to be a list");
                &[]
            }
        }
    }

    fn node(&mut self, value: &Value, index: usize, ids: &mut HashSet<String>) -> (Option<String>, Option<Node>) {
        let at = format!("nodes[{index}]");
        let Some(object) = value.as_object() else {
            self.note(&at, "is to be an object");
            return (None, None);
        };
        let id = self.id(&format!("{at}.id"), object.get("id"));
        if let Some(id) = &id
            && !ids.insert(id.clone())
        {
            self.note(&format!("{at}.id"), format!("is the id of another node, too: {id}"));
        }
        self.position(&at, object.get("position"));
        let empty = Map::new();
        let config = match object.get("config") {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(config)) => config,
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                self.note(&format!("{at}.config"), "is to be an object");
                &empty
            }
        };
        let Some(word) = object.get("type").and_then(Value::as_str) else {
            self.note(&format!("{at}.type"), "is to name a type of node");
            return (id, None);
        };
        // a chain within a chain would multiply the work without a limit, already that of reading it
        if word == "map" && !self.prefix.is_empty() {
            self.note(&format!("{at}.type"), "is not to be map again");
            return (id, None);
        }
        let config = snake_case(config);
        let config_at = format!("{}{at}.config", self.prefix);
        let mut findings = Findings { at: &config_at, problems: &mut self.problems };
        let Some(kind) = Kind::read(word, &config, &mut findings) else {
            self.note(&format!("{at}.type"), format!("is none of {}", WORDS.join(", ")));
            return (id, None);
        };
        let settings: Settings = config_of(&config, &mut findings);
        settings.check(&mut findings);
        let node = id.clone().map(|id| Node { id, kind, settings });
        (id, node)
    }

    fn id(&mut self, at: &str, value: Option<&Value>) -> Option<String> {
        match value.and_then(Value::as_str) {
            None => self.note(at, "is to be a text"),
            Some(id) if id.trim().is_empty() => self.note(at, "is not to be blank"),
            Some(id) if id.chars().count() > MAX_ID => {
                self.note(at, format!("is to have at most {MAX_ID} characters"));
            }
            Some(id) if names_a_part(id) => {
                self.note(
                    at,
                    "looks like a part of another node: it is not to contain \"]/\" or end with \"/describe\"",
                );
            }
            Some(id) => return Some(id.to_owned()),
        }
        None
    }

    fn position(&mut self, at: &str, position: Option<&Value>) {
        let number = |key| position.and_then(|position| position.get(key)).is_none_or(Value::is_number);
        match position {
            None | Some(Value::Null) => {}
            Some(Value::Object(_)) if number("x") && number("y") => {}
            Some(_) => self.note(&format!("{at}.position"), "is to be {x, y} with numbers"),
        }
    }

    fn connection(
        &mut self,
        value: &Value,
        index: usize,
        nodes: &[Node],
        known: &HashMap<String, Option<usize>>,
        ids: &mut HashSet<String>,
    ) -> Option<Connection> {
        let at = format!("connections[{index}]");
        let Some(object) = value.as_object() else {
            self.note(&at, "is to be an object");
            return None;
        };
        let id = match object.get("id") {
            // one that is stored has its own
            None | Some(Value::Null) => Some(format!("connections[{index}]")),
            given => self.id(&format!("{at}.id"), given),
        };
        if let Some(id) = &id
            && !ids.insert(id.clone())
        {
            self.note(&format!("{at}.id"), format!("is the id of another connection, too: {id}"));
        }
        let (source, from) = self.end(&format!("{at}.source"), object.get("source"), nodes, known);
        let (target, to) = self.end(&format!("{at}.target"), object.get("target"), nodes, known);
        let source_handle =
            self.handle(&at, object, "source_handle", "sourceHandle", "output", from.map(|node| node.kind.outputs()));
        let target_handle =
            self.handle(&at, object, "target_handle", "targetHandle", "input", to.map(|node| node.kind.inputs()));
        Some(Connection {
            id: id?,
            source: source?,
            target: target?,
            source_handle: source_handle?,
            target_handle: target_handle?,
        })
    }

    fn end<'n>(
        &mut self,
        at: &str,
        value: Option<&Value>,
        nodes: &'n [Node],
        known: &HashMap<String, Option<usize>>,
    ) -> (Option<String>, Option<&'n Node>) {
        let Some(id) = value.and_then(Value::as_str) else {
            self.note(at, "is to be the id of a node");
            return (None, None);
        };
        match known.get(id) {
            Some(place) => (Some(id.to_owned()), place.and_then(|place| nodes.get(place))),
            None => {
                self.note(at, format!("is the id of no node: {id}"));
                (None, None)
            }
        }
    }

    fn handle(
        &mut self,
        at: &str,
        object: &Map<String, Value>,
        key: &str,
        camel: &str,
        default: &str,
        there: Option<&[&str]>,
    ) -> Option<String> {
        let given = object.get(key).or_else(|| object.get(camel)).filter(|value| !value.is_null());
        let handle = match given {
            None => default,
            Some(value) => match value.as_str() {
                Some(handle) => handle,
                None => {
                    self.note(&format!("{at}.{key}"), "is to be a text");
                    return None;
                }
            },
        };
        if let Some(there) = there
            && !there.contains(&handle)
        {
            let message = match there {
                [] => "leads to or from a node that has none on this side".to_owned(),
                _ => format!("is none of the node's handles: {}", there.join(", ")),
            };
            self.note(&format!("{at}.{key}"), message);
            return None;
        }
        Some(handle.to_owned())
    }
}

/// Both spellings of keys are understood. Nulls count as absent.
fn snake_case(config: &Map<String, Value>) -> Map<String, Value> {
    let spelled = |key: &str| {
        let mut spelled = String::with_capacity(key.len() + 4);
        for c in key.chars() {
            if c.is_ascii_uppercase() {
                spelled.push('_');
            }
            spelled.push(c.to_ascii_lowercase());
        }
        spelled
    };
    config.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (spelled(key), value.clone())).collect()
}

/// Fills in what a client may leave out: positions, configs, ids of connections, handles. Configs stay as they are, and so
/// does what does not read.
pub fn normalized(nodes: &Value, connections: &Value) -> (Value, Value) {
    let (mut nodes, mut connections) = (nodes.clone(), connections.clone());
    for node in nodes.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let mut position = node.get("position").and_then(Value::as_object).cloned().unwrap_or_default();
        for side in ["x", "y"] {
            position.entry(side).or_insert_with(|| json!(0));
        }
        node.insert("position".to_owned(), Value::Object(position));
        if node.get("config").is_none_or(Value::is_null) {
            node.insert("config".to_owned(), json!({}));
        }
    }
    let taken: HashSet<String> = connections
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|connection| Some(connection.get("id")?.as_str()?.to_owned()))
        .collect();
    let mut numbers = 0..;
    for connection in connections.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if connection.get("id").is_none_or(Value::is_null) {
            let free = numbers.by_ref().map(|number| format!("connection-{number}")).find(|id| !taken.contains(id));
            connection.insert("id".to_owned(), json!(free));
        }
        for (key, camel, default) in
            [("source_handle", "sourceHandle", "output"), ("target_handle", "targetHandle", "input")]
        {
            let given = connection.remove(camel).filter(|value| !value.is_null());
            if connection.get(key).is_none_or(Value::is_null) {
                connection.insert(key.to_owned(), given.unwrap_or_else(|| json!(default)));
            }
        }
    }
    (nodes, connections)
}

/// Whether an id is one under which a part of another node is recorded: what a map runs for an entry, or what an image
/// analysis asks a model.
fn names_a_part(id: &str) -> bool {
    id.contains("]/") || id.ends_with("/describe")
}
