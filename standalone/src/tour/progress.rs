//! Following a job on its socket.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use uuid::Uuid;

use super::client::Client;
use crate::terminal::Terminal;

/// In the first seconds a worker may still be loading its models; and a crash is repaired within half a minute.
const PATIENCE: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 3;

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    step: Option<String>,
    status: String,
    progress: Progress,
    data: Value,
}

#[derive(Deserialize)]
struct Progress {
    completed: u64,
    total: u64,
}

/// Shows the job's progress until it has ended well.
pub(super) async fn follow(client: &Client, job: Uuid, terminal: &Terminal) -> anyhow::Result<()> {
    let bar = terminal.step_bar("analysing", 0);
    let outcome = timeout(PATIENCE, follow_on_sockets(client, job, terminal, &bar)).await;
    bar.finish_and_clear();
    outcome.with_context(|| format!("nothing came of it within {} s", PATIENCE.as_secs()))?
}

/// A socket that breaks off is opened again: the server sends what was before once more.
async fn follow_on_sockets(client: &Client, job: Uuid, terminal: &Terminal, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut broken = None;
    for _ in 0..CONNECTIONS {
        let address = client.socket(job)?;
        let (mut socket, _) = tokio_tungstenite::connect_async(address.as_str()).await.context("cannot follow it")?;
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Text(text)) => {
                    let frame: Frame = serde_json::from_str(&text).context("a frame is not as documented")?;
                    if show(&frame, terminal, bar)? {
                        return Ok(());
                    }
                }
                Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                    broken = Some(format!("closed: {code} {reason}"))
                }
                Ok(_) => {}
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
    }
    bail!("the socket broke off {CONNECTIONS} times ({})", broken.unwrap_or_default())
}

/// Shows one frame; tells whether it was the last.
fn show(frame: &Frame, terminal: &Terminal, bar: &ProgressBar) -> anyhow::Result<bool> {
    bar.set_length(frame.progress.total);
    bar.set_position(frame.progress.completed);
    match (frame.r#type.as_str(), &frame.step) {
        ("job_complete", _) => return Ok(true),
        ("job_failed", _) => {
            let told = frame.data["error_message"].as_str().unwrap_or("no reason was given");
            bail!("{told} (status {})", frame.status);
        }
        (_, Some(step)) => {
            bar.set_message(format!("{step} {}", frame.status));
            let has_ended = frame.status != "running" && frame.status != "pending";
            if has_ended && !terminal.shows_bars() {
                let Progress { completed, total } = frame.progress;
                terminal.say(format_args!("  {completed}/{total} {step} {}", frame.status));
            }
        }
        (_, None) => {}
    }
    Ok(false)
}
