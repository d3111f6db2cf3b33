#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use super::{Definition, InputValue, Kind, OperationType, Refusal, node_types, normalized, template};
use crate::{config::Reader, llm::Catalogue};
use serde_json::{Value, json};

fn catalogue(variables: &[(&str, &str)]) -> Catalogue {
    let mut from = Reader::new(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let catalogue = Catalogue::read(&mut from);
    from.finish(catalogue).unwrap()
}

fn fields(nodes: &Value, connections: &Value) -> Vec<String> {
    match Definition::read(nodes, connections) {
        Err(Refusal::Invalid(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_spellings_of_settings_are_read() {
    let nodes = json!([
        { "id": "a", "type": "openai", "config": { "model": "gpt-4", "maxTokens": 10, "systemPrompt": "Be brief." } },
        { "id": "b", "type": "openai", "config": { "model": "gpt-4", "max_tokens": 10, "system_prompt": "Be brief." } },
    ]);
    let definition = Definition::read(&nodes, &json!([])).unwrap();
    let configs: Vec<_> = definition
        .nodes
        .into_iter()
        .map(|node| {
            let Kind::Openai(config) = node.kind else { panic!("{}", node.kind.word()) };
            config
        })
        .collect();
    assert_eq!(configs[0].max_tokens, Some(10));
    assert_eq!(configs[0], configs[1]);
}

#[test]
fn every_problem_is_found_at_once_with_its_path() {
    let nodes = json!([
        { "id": "a", "type": "openai", "config": { "max_tokens": "many", "temperature": 3, "on_error": "panic" } },
        { "id": "a", "type": "input" },
        { "id": " ", "type": "teapot" },
        { "id": "p", "type": "prompt", "config": { "template": "{{ open" } },
        { "id": "t", "type": "transform", "config": { "operation": "json_path", "path": "$[" } },
        { "id": "m", "type": "map", "config": { "nodes": [{ "id": "x", "type": "delay", "config": { "seconds": -1 } }] } },
    ]);
    let connections =
        json!([{ "source": "nobody", "target": "p" }, { "source": "p", "target": "t", "sourceHandle": "true" }]);
    assert_eq!(
        fields(&nodes, &connections),
        [
            "nodes[0].config.max_tokens",
            "nodes[0].config.temperature",
            "nodes[0].config.on_error",
            "nodes[1].id",
            "nodes[2].id",
            "nodes[2].type",
            "nodes[3].config.template",
            "nodes[4].config.path",
            "nodes[5].config.nodes[0].config.seconds",
            "connections[0].source",
            "connections[1].source_handle",
        ]
    );
}

#[test]
fn a_circle_is_named_and_a_connection_to_itself_is_one() {
    let node = |id: &str| json!({ "id": id, "type": "merge" });
    let nodes = json!([node("a"), node("b"), node("c")]);
    let circle = |connections: Value| match Definition::read(&nodes, &connections) {
        Err(Refusal::Cyclic(circle)) => circle,
        other => panic!("{other:?}"),
    };
    assert_eq!(circle(json!([{ "source": "a", "target": "a" }])), ["a", "a"]);
    let behind = json!([
        { "source": "a", "target": "b" }, { "source": "b", "target": "a" }, { "source": "b", "target": "c" }
    ]);
    assert_eq!(circle(behind).len(), 3);
    let chain =
        json!([{ "source": "a", "target": "b" }, { "source": "a", "target": "c" }, { "source": "b", "target": "c" }]);
    assert!(Definition::read(&nodes, &chain).is_ok());
}

#[test]
fn a_draft_may_leave_open_what_a_run_may_not() {
    let nodes = json!([
        { "id": "h", "type": "http" },
        { "id": "l", "type": "llm", "config": { "model": "no-such-model" } },
        { "id": "o", "type": "openai", "config": { "model": "gpt-4" } },
    ]);
    let definition = Definition::read(&nodes, &json!([])).unwrap();
    let blamed = |catalogue: &Catalogue| -> Vec<String> {
        definition.problems_to_run(catalogue).into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(blamed(&catalogue(&[])), ["h", "l", "o"]);
    assert_eq!(blamed(&catalogue(&[("OPENAI_API_KEY", "sk-1")])), ["h", "l"]);
    let empty = Definition::read(&json!([]), &json!([])).unwrap();
    assert_eq!(empty.problems_to_run(&catalogue(&[]))[0].0, "nodes");
}

#[test]
fn what_is_left_out_is_filled_in_and_settings_stay_as_they_are() {
    let (nodes, connections) = normalized(
        &json!([{ "id": "a", "type": "input", "config": { "inputType": "text" }, "position": { "x": 3 } },
                { "id": "b", "type": "output" }]),
        &json!([{ "source": "a", "target": "b" }, { "id": "connection-0", "source": "a", "target": "b" }]),
    );
    assert_eq!(nodes[0]["config"], json!({ "inputType": "text" }));
    assert_eq!(nodes[0]["position"], json!({ "x": 3, "y": 0 }));
    assert_eq!((&nodes[1]["position"], &nodes[1]["config"]), (&json!({ "x": 0, "y": 0 }), &json!({})));
    assert_eq!(connections[0]["id"], "connection-1");
    assert_eq!(connections[0]["source_handle"], "output");
    assert_eq!(connections[0]["target_handle"], "input");
    assert!(Definition::read(&nodes, &connections).is_ok());
}

#[test]
fn inputs_are_checked_by_their_type() {
    let nodes = json!([
        { "id": "text", "type": "input" },
        { "id": "default", "type": "input", "config": { "defaultValue": "tea" } },
        { "id": "image", "type": "input", "config": { "input_type": "image" } },
        { "id": "file", "type": "input", "config": { "input_type": "file" } },
    ]);
    let definition = Definition::read(&nodes, &json!([])).unwrap();
    let blamed = |inputs: Value| -> Vec<String> {
        definition.check_inputs(inputs.as_object().unwrap()).into_iter().map(|problem| problem.field).collect()
    };
    let good = json!({ "text": { "text": "x" }, "image": { "data": "aGk=" }, "file": { "data": "aGk=" } });
    assert_eq!(blamed(good), Vec::<String>::new());
    let bad = json!({ "text": { "text": [] }, "image": { "image_id": "7" }, "file": { "data": "%" }, "nobody": 1 });
    assert_eq!(blamed(bad), ["inputs.nobody", "inputs.text", "inputs.image", "inputs.file"]);
    let Kind::Input(default) = &definition.nodes[1].kind else { panic!("no input") };
    assert_eq!(default.value(None), Ok(InputValue::Text("tea".to_owned())));
}

#[test]
fn places_may_name_ids_that_are_no_identifiers() {
    let ids = ["node-1", "node-10", "plain"];
    let named = |source: &str| template::name_nodes(source, ids.into_iter());
    assert_eq!(named("a {{node-1}} b"), r#"a {{nodes["node-1"]}} b"#);
    assert_eq!(named("{{- node-10 | upper }}{{ plain }}"), r#"{{- nodes["node-10"] | upper }}{{ plain }}"#);
    assert_eq!(named("{{ node-100 }}"), "{{ node-100 }}");
    assert_eq!(named("{{ node-1.json.x }}{{"), r#"{{ nodes["node-1"].json.x }}{{"#);
}

#[test]
fn the_catalogue_has_every_type_with_its_schema() {
    let types = node_types();
    assert_eq!(types.len(), super::kind::WORDS.len());
    for node_type in types {
        let properties = node_type.config_schema["properties"].as_object().unwrap();
        assert!(properties.contains_key("on_error"), "{}", node_type.r#type);
        assert!(properties.values().any(|property| property.get("description").is_some()), "{}", node_type.r#type);
    }
}

#[test]
fn an_id_is_not_that_of_a_part_of_another_node() {
    for (id, fits) in [("each[0]/say", false), ("look/describe", false), ("a/b", true), ("a[0]", true)] {
        let read = Definition::read(&json!([{ "id": id, "type": "merge" }]), &json!([]));
        assert_eq!(read.is_ok(), fits, "{id}");
    }
}

#[test]
fn what_orchestrations_do_outside_is_no_type_of_node() {
    let words: Vec<_> = node_types().iter().map(|node| node.r#type).collect();
    for word in OperationType::WORDS.iter().chain(&["integration", "operation", "git", "github", "docker"]) {
        assert!(!words.contains(word), "{word} is in the catalogue");
        let nodes = json!([{ "id": "a", "type": word, "config": {} }]);
        assert_eq!(fields(&nodes, &json!([])), ["nodes[0].type"], "{word}");
    }
}
