//! Tries to get into one account, from wherever they come. After some wrong ones no further one is looked at for a while,
//! whether there is such an account or not.

use super::tokens::hash;
use crate::{error::ApiError, limits, state::State};
use std::time::Duration;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// Accounts that have tries at the same time without waiting for each other, as a rule.
const LANES: usize = 256;

/// How long a try waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes tries on one account take turns: were many looked at side by side, all would be before the first was counted.
pub(crate) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..LANES).map(|_| Mutex::new(())).collect())
    }
}

/// One try. It is over when this is dropped.
pub(crate) struct Try<'a> {
    state: &'a State,
    account: String,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Try<'a> {
    /// Begins a try on the account with this email.
    ///
    /// # Errors
    /// 429 after too many wrong ones; 503 if too many come at once.
    pub(crate) async fn begin(state: &'a State, email: &str) -> Result<Self, ApiError> {
        let account = hash(&email.to_lowercase());
        let lane = usize::from(account.first().copied().unwrap_or_default()) % LANES;
        let busy = || ApiError::unavailable("Too many logins at once; try again", 1);
        let lane = state.turns.0.get(lane).ok_or_else(busy)?;
        let turn = timeout(PATIENCE, lane.lock()).await.map_err(|_| busy())?;
        let account: String = account.iter().map(|byte| format!("{byte:02x}")).collect();
        limits::check_account(state, &account).await?;
        Ok(Self { state, account, _turn: turn })
    }

    /// It was wrong: counts it, and gives back what the client is told.
    pub(crate) async fn failed(self, told: ApiError) -> ApiError {
        limits::charge_account(self.state, &self.account).await;
        told
    }
}
