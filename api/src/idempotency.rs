//! Requests with an `Idempotency-Key`: the work is done once, and the answer is given again.

use crate::error::ApiError;
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Does the work of a POST in one transaction, and at most once for its `Idempotency-Key`.
///
/// Every handler of a POST that changes something does so in here. What is sent elsewhere (hints, notices) is sent after it.
///
/// # Errors
/// Those of the work.
pub(crate) async fn once<R>(
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    Transactions::begin_transaction(conn).await?;
    match work(conn).await {
        Ok(done) => {
            Transactions::commit_transaction(conn).await?;
            Ok(done)
        }
        Err(error) => {
            // a connection on which this fails is broken, and is not used again
            let _ = Transactions::rollback_transaction(conn).await;
            Err(error)
        }
    }
}
