//! `file_system`: a text becomes a file of the user who started the run.

use crate::nodes::{Trouble, output::Output, ran::Left, scope::Scope};
use bytes::Bytes;
use serde_json::json;
use shared::{
    models::{NewFile, Orchestration},
    storage,
};
use uuid::Uuid;

const MARKDOWN: &str = "text/markdown";

/// Stores a text under a name that is the same in every attempt; its row is written when the step is recorded.
pub(super) async fn keep(
    scope: &Scope<'_>,
    run: &Orchestration,
    step: &str,
    filename: &str,
    text: String,
) -> Result<Output, Trouble> {
    let key = storage::orchestration_file_key(run.id, filename);
    let size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let put = scope.run.context.storage.put(&key, Bytes::from(text), "text/markdown; charset=utf-8").await;
    put.map_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "a file of an orchestration is not stored");
        Trouble::integration("The object store did not take the file.", true)
    })?;
    let file = NewFile {
        id: Uuid::new_v5(&run.id, step.as_bytes()),
        organization_id: run.organization_id,
        user_id: run.user_id,
        orchestration_id: Some(run.id),
        filename: filename.to_owned(),
        size,
        mime_type: MARKDOWN.to_owned(),
        s3_key: key,
    };
    let facts = json!({ "file_id": file.id, "filename": filename, "size": size });
    let text = Some(format!("The file {filename} was written."));
    Ok(Output { text, json: Some(facts), left: Some(Left::File(file)), ..Output::default() })
}
