//! uploads: clears away what uploads of files have left that never came to their end, because the process died or the store
//! was away. The API does the same at once where it can.

use crate::Context;
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use shared::models::FileUpload;

/// Uploads per query.
const PAGE: i64 = 100;

/// One turn. An upload that the store does not let go of is passed over, and its error is that of the turn.
pub(crate) async fn turn(context: &Context) -> Result<u64> {
    let before = Utc::now() - context.config.retention.uploads;
    let (mut after, mut cleared, mut outcome) = (String::new(), 0, Ok(()));
    loop {
        let page = next(context, before, &after).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        for upload in &page {
            match clear(context, upload).await {
                Ok(()) => cleared += 1,
                Err(error) => outcome = Err(error),
            }
        }
    }
    outcome.map(|()| cleared)
}

async fn next(context: &Context, before: DateTime<Utc>, after: &str) -> Result<Vec<FileUpload>> {
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    Ok(FileUpload::list_begun_before(&mut conn, before, after, PAGE).await?)
}

async fn clear(context: &Context, upload: &FileUpload) -> Result<()> {
    if let Some(upload_id) = &upload.upload_id {
        context.store.abort_parts(&upload.key, upload_id).await?;
    }
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    Ok(FileUpload::give_up(&mut conn, &[&upload.key]).await?)
}
