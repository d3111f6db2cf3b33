//! objects: deletes from the object store what rows no longer speak of.
//!
//! Whoever deletes a row that named an object writes the key to `object_deletions` in the same transaction. The key goes
//! only when the object has gone, so nothing is forgotten while the store is away. Deleting twice does no harm.

use crate::Context;
use anyhow::{Context as _, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shared::schema::object_deletions as deletions;

/// Keys per request to the store, if it takes them.
const MOST: i64 = 500;

/// Requests per turn.
const REQUESTS: usize = 50;

/// How far the chore has come, in the order of keys.
pub(crate) struct Objects {
    /// Keys up to here have had their chance in this round.
    after: String,
    /// Keys in the next request. A request fails as a whole, so it gets smaller until it is only the one key that the
    /// store refuses, which is then passed over until the next round.
    size: i64,
}

impl Default for Objects {
    fn default() -> Self {
        Self { after: String::new(), size: MOST }
    }
}

impl Objects {
    pub(crate) async fn turn(&mut self, context: &Context) -> Result<u64> {
        let mut deleted = 0;
        for _ in 0..REQUESTS {
            let keys = self.next(context).await?;
            let Some(last) = keys.last().cloned() else {
                self.after.clear();
                break;
            };
            if let Err(error) = context.store.delete(&keys).await {
                if self.size == 1 {
                    self.after = last;
                }
                self.size = (self.size / 10).max(1);
                return Err(error.context("objects could not be deleted"));
            }
            deleted += forget(context, &keys).await?;
            self.after = last;
            self.size = (self.size * 10).min(MOST);
        }
        Ok(deleted)
    }

    async fn next(&self, context: &Context) -> Result<Vec<String>> {
        let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
        let keys = deletions::table
            .filter(deletions::key.gt(&self.after))
            .order(deletions::key)
            .limit(self.size)
            .select(deletions::key)
            .load(&mut conn)
            .await?;
        Ok(keys)
    }
}

async fn forget(context: &Context, keys: &[String]) -> Result<u64> {
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    let gone = diesel::delete(deletions::table.filter(deletions::key.eq_any(keys))).execute(&mut conn).await?;
    Ok(gone as u64)
}
