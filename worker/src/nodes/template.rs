//! Fills templates: `{{ input }}`, `{{ node_id }}`, `{{ nodes["node-1"].json.field }}`, in chains `{{ item }}` and
//! `{{ index }}`.

use super::{
    Trouble,
    names::{Named, data},
    scope::{Arrived, Scope},
};
use minijinja::value::Value;
use shared::pipeline::template::{environment, name_nodes};
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    sync::Arc,
};

/// Most bytes of a filled template.
const MAX: usize = 1024 * 1024;

/// Fills a template.
pub(super) fn render(scope: &Scope<'_>, arrived: &Arrived, source: &str) -> Result<String, Trouble> {
    // most texts have no places
    if !source.contains(['{', '#']) {
        return Ok(source.to_owned());
    }
    let named = name_nodes(source, arrived.known.keys().map(String::as_str));
    let environment = environment();
    let template = environment.template_from_str(&named).map_err(broken)?;
    let mut filled = Limited(Vec::new());
    template.render_captured_to(context(scope, arrived), &mut filled).map_err(broken)?;
    String::from_utf8(filled.0).map_err(|_| Trouble::lasting("A template gave no text."))
}

/// Whether an expression holds.
pub(super) fn is_true(scope: &Scope<'_>, arrived: &Arrived, source: &str) -> Result<bool, Trouble> {
    let environment = environment();
    let expression = environment.compile_expression(source).map_err(broken)?;
    Ok(expression.eval(context(scope, arrived)).map_err(broken)?.is_true())
}

fn context(scope: &Scope<'_>, arrived: &Arrived) -> Value {
    let named = |output: &Arc<super::Output>| Value::from_object(Named(output.clone()));
    let nodes: HashMap<String, Value> = arrived.known.iter().map(|(id, output)| (id.clone(), named(output))).collect();
    let mut names: BTreeMap<String, Value> = BTreeMap::new();
    if let Some((entry, index)) = &scope.entry {
        names.insert("item".to_owned(), entry.json.as_ref().map_or_else(|| named(entry), data));
        names.insert("index".to_owned(), Value::from(*index));
    }
    names.insert("input".to_owned(), Value::from(arrived.text()));
    names.insert("json".to_owned(), data(&arrived.json()));
    // a node's own id wins over the names above
    names.extend(nodes.iter().map(|(id, value)| (id.clone(), value.clone())));
    names.insert("nodes".to_owned(), Value::from(nodes));
    Value::from(names)
}

fn broken(error: minijinja::Error) -> Trouble {
    Trouble::lasting(format!("A template cannot be filled: {error}"))
}

/// Takes [`MAX`] bytes and no more.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
