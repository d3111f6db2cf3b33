//! A file on its way into the store: passed on in parts while it comes in, so that at most two parts of it are in memory.
//!
//! Before anything is stored a row says so. It goes with the transaction that makes the row of the file; if that never comes,
//! because the form is no good, the store fails or the sender has gone, what is there is cleared away at once, and by the
//! scheduler if this process dies.

use super::uploads::storage_failed;
use crate::{error::ApiError, file_type::file_type, state::State};
use actix_web::web;
use anyhow::Context;
use bytes::{Bytes, BytesMut};
use shared::{
    models::FileUpload,
    storage::{PART_BYTES, StoredPart},
};
use std::time::Duration;
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet, time::timeout};

/// How long a file waits until there is room for its parts; nothing more is read of it meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file that comes in.
pub(super) struct Sending {
    state: web::Data<State>,
    key: String,
    /// For the memory that its parts take.
    room: Option<OwnedSemaphorePermit>,
    /// What the sender says it is, if that says anything.
    declared: Option<String>,
    /// The type of its bytes, once some of it was stored.
    mime_type: String,
    /// The part that is being filled.
    filling: BytesMut,
    /// The part that is being stored: at most one.
    storing: JoinSet<anyhow::Result<StoredPart>>,
    stored: Vec<StoredPart>,
    upload_id: Option<String>,
    /// Why nothing more is stored.
    failure: Option<ApiError>,
    leaves_traces: bool,
}

impl Sending {
    /// A file that is to be stored under this key; nothing is sent yet.
    pub(super) fn new(state: &web::Data<State>, key: String) -> Self {
        Self {
            state: state.clone(),
            key,
            room: None,
            declared: None,
            mime_type: String::new(),
            filling: BytesMut::new(),
            storing: JoinSet::new(),
            stored: Vec::new(),
            upload_id: None,
            failure: None,
            leaves_traces: false,
        }
    }

    /// What the sender says the file is.
    pub(super) fn declare(&mut self, mime_type: Option<String>) {
        self.declared = mime_type;
    }

    /// The next bytes of the file. If they cannot be stored, [`Sending::finish`] says why.
    pub(super) async fn take(&mut self, mut piece: Bytes) {
        while self.failure.is_none() && !piece.is_empty() {
            if let Err(failure) = self.make_room().await {
                self.failure = Some(failure);
                self.filling = BytesMut::new();
                return;
            }
            let room = (PART_BYTES - self.filling.len()).min(piece.len());
            self.filling.extend_from_slice(&piece.split_to(room));
        }
    }

    /// Stores what is left; the type of the file. Its row is still to be made, and the note of the upload to be deleted.
    ///
    /// # Errors
    /// 502 if the store failed at any time, 503 if the database did or too many files came in at once.
    pub(super) async fn finish(&mut self) -> Result<String, ApiError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.upload_id.is_none() {
            self.store_whole().await?;
        } else {
            self.store_part().await?;
            self.wait().await?;
            let upload_id = self.upload_id.as_deref().unwrap_or_default();
            let stored = std::mem::take(&mut self.stored);
            self.state.storage.complete_parts(&self.key, upload_id, stored).await.map_err(storage_failed)?;
        }
        Ok(self.mime_type.clone())
    }

    /// A row names the file: it stays.
    pub(super) fn keep(mut self) {
        self.leaves_traces = false;
    }

    /// Clears away what was stored.
    pub(super) async fn give_up(mut self) {
        if let Some(clearing) = self.clearing() {
            // a task of its own: the sender may go meanwhile
            let _ = self.state.requests.spawn(clearing).await;
        }
    }

    /// Makes sure that the part has room for more.
    async fn make_room(&mut self) -> Result<(), ApiError> {
        if self.room.is_none() {
            let room = timeout(PATIENCE, self.state.room_for_files.clone().acquire_owned()).await;
            let full = || ApiError::unavailable("Too many files come in at the moment; try again", 2);
            self.room = Some(room.map_err(|_| full())?.map_err(ApiError::internal)?);
        }
        if self.filling.len() == PART_BYTES {
            self.store_part().await?;
        }
        if self.filling.capacity() == 0 {
            self.filling.reserve(PART_BYTES);
        }
        Ok(())
    }

    async fn store_whole(&mut self) -> Result<(), ApiError> {
        self.mime_type = file_type(self.declared.as_deref(), &self.filling, true);
        self.leaves_traces = true;
        let mut conn = self.state.conn().await?;
        FileUpload::begin(&mut conn, &self.key, None).await?;
        drop(conn);
        let body = std::mem::take(&mut self.filling).freeze();
        self.state.storage.put(&self.key, body, &self.mime_type).await.map_err(storage_failed)
    }

    async fn store_part(&mut self) -> Result<(), ApiError> {
        let upload_id = match &self.upload_id {
            Some(upload_id) => upload_id.clone(),
            None => self.begin().await?,
        };
        self.wait().await?;
        let body = std::mem::take(&mut self.filling).freeze();
        let (storage, key) = (self.state.storage.clone(), self.key.clone());
        let number = i32::try_from(self.stored.len() + 1).map_err(ApiError::internal)?;
        self.storing.spawn(async move { storage.put_part(&key, &upload_id, number, body).await });
        Ok(())
    }

    async fn begin(&mut self) -> Result<String, ApiError> {
        self.mime_type = file_type(self.declared.as_deref(), &self.filling, false);
        let begun = self.state.storage.begin_parts(&self.key, &self.mime_type).await.map_err(storage_failed)?;
        self.upload_id = Some(begun.clone());
        self.leaves_traces = true;
        FileUpload::begin(&mut *self.state.conn().await?, &self.key, Some(&begun)).await?;
        Ok(begun)
    }

    /// Waits until the part under way is stored.
    async fn wait(&mut self) -> Result<(), ApiError> {
        while let Some(stored) = self.storing.join_next().await {
            let stored = stored.context("a part was given up").flatten();
            self.stored.push(stored.map_err(storage_failed)?);
        }
        Ok(())
    }

    /// The work of clearing away, if there is any.
    fn clearing(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        if !std::mem::take(&mut self.leaves_traces) {
            return None;
        }
        let (state, key, upload_id) = (self.state.clone(), self.key.clone(), self.upload_id.take());
        let mut storing = std::mem::take(&mut self.storing);
        Some(async move {
            // a part that came after the end of its upload would stay
            while storing.join_next().await.is_some() {}
            if let Err(error) = clear(&state, &key, upload_id.as_deref()).await {
                tracing::warn!("what is left of an upload will be cleared away later: {error:#}");
            }
        })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(clearing) = self.clearing() {
            self.state.requests.spawn(clearing);
        }
    }
}

/// The row decides: if it is gone, the file was made after all.
async fn clear(state: &State, key: &str, upload_id: Option<&str>) -> anyhow::Result<()> {
    if let Some(upload_id) = upload_id {
        state.storage.abort_parts(key, upload_id).await?;
    }
    Ok(FileUpload::give_up(&mut *state.pool.get().await?, &[key]).await?)
}
