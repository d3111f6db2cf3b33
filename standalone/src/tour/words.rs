//! The part of the tour with a language model: a small pipeline, and a chat answer that arrives word by word. Only a model on
//! this machine is asked, so that a tour never costs money.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::client::Client;
use crate::terminal::Terminal;

/// A small model on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_TOKENS: u32 = 40;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    local: bool,
    supported_endpoints: Vec<String>,
}

#[derive(Deserialize)]
struct Pipeline {
    id: Uuid,
}

#[derive(Deserialize)]
struct Run {
    status: String,
    results: Map<String, Value>,
    duration: f64,
}

/// One frame of a streamed answer.
#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

/// Runs a pipeline and asks a question, if a model on this machine answers; tells whether one does.
pub(super) async fn show(client: &Client, terminal: &Terminal) -> anyhow::Result<bool> {
    let models: Models = client.get("/ai/models?limit=100").await.context("cannot list the models")?;
    let is_local = |model: &&Model| model.local && model.supported_endpoints.iter().any(|name| name == "chat");
    let Some(model) = models.data.iter().find(is_local) else {
        terminal.say("  no language model on this machine: pipelines and chat are left out\n");
        return Ok(false);
    };
    terminal.say("  now some words, by the small local model: they show that everything works, do not trust them\n");
    run_pipeline(client, &model.id, terminal).await.context("cannot run a pipeline")?;
    chat(client, &model.id, terminal).await.context("cannot chat")?;
    Ok(true)
}

async fn run_pipeline(client: &Client, model: &str, terminal: &Terminal) -> anyhow::Result<()> {
    let node = |id: &str, kind: &str, config: Value| json!({"id": id, "type": kind, "config": config});
    let connection = |source: &str, target: &str| json!({"source": source, "target": target});
    let definition = json!({
        "name": "From the welcome tour",
        "nodes": [
            node("city", "input", json!({"input_type": "text"})),
            node("question", "prompt", json!({
                "template": "In which country is {{ city }}? Answer in one short sentence."
            })),
            node("model", "llm", json!({"model": model, "max_tokens": MAX_TOKENS, "temperature": 0})),
            node("answer", "output", json!({})),
        ],
        "connections": [
            connection("city", "question"), connection("question", "model"), connection("model", "answer"),
        ],
    });
    let pipeline: Pipeline = client.post("/pipelines", &definition).await?;
    let order = json!({"inputs": {"city": {"text": "Paris"}}, "config": {"async": false}});
    let run: Run = client.post_patiently(&format!("/pipelines/{}/run", pipeline.id), &order, PATIENCE).await?;
    let Some(text) = run.results.get("answer").and_then(|result| result["text"].as_str()) else {
        bail!("the run is {}, without a text at its output: {}", run.status, Value::Object(run.results));
    };
    terminal.say(format_args!("  pipeline {}: city → question → model → answer", pipeline.id));
    terminal.say(format_args!("  \"Paris\" became, in {:.1} s: {}\n", run.duration / 1000.0, text.trim()));
    Ok(())
}

async fn chat(client: &Client, model: &str, terminal: &Terminal) -> anyhow::Result<()> {
    const QUESTION: &str = "Name three drinks that are made from coffee.";
    let request = json!({
        "model": model, "stream": true, "max_tokens": MAX_TOKENS, "temperature": 0,
        "messages": [{"role": "user", "content": QUESTION}],
    });
    let asked = Instant::now();
    let mut first = None;
    let mut pieces = 0;
    terminal.say(format_args!("  chat, as it arrives: {QUESTION}"));
    let outcome = client
        .stream("/ai/chat", &request, PATIENCE, |data| {
            let piece: Piece = serde_json::from_str(data).context("a frame is not as documented")?;
            if let Some(error) = piece.error {
                bail!("the answer broke off: {error}");
            }
            let content = piece.choices.into_iter().filter_map(|choice| choice.delta.content).collect::<String>();
            if !content.is_empty() {
                pieces += 1;
                terminal.write(if first.is_none() { "  " } else { "" });
                first.get_or_insert_with(|| asked.elapsed());
                terminal.write(content.replace('\n', "\n  "));
            }
            Ok(())
        })
        .await;
    let Some(first) = first else {
        outcome?;
        bail!("the answer has no words");
    };
    terminal.say("");
    outcome?;
    terminal.say(format_args!("  ({pieces} pieces, the first after {:.1} s)\n", first.as_secs_f64()));
    Ok(())
}
