//! Answers that a repeated request gets again, and the claims of requests that are being answered.

use crate::{schema::idempotency_keys, text_enum::text_enum};
use diesel::{
    prelude::*,
    sql_types::{Binary, Bool, Interval, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::time::Duration;
use uuid::Uuid;

/// How long a request may take to be answered. One that has not been after that has lost its process.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Takes a key that nobody has, that nobody has any more, or whose holder has died before it did anything.
const CLAIM: &str = "INSERT INTO idempotency_keys AS k (user_id, route, hash, owner) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (user_id, route, hash) DO UPDATE SET owner = EXCLUDED.owner, status = 'claimed', body_hash = NULL, \
        answer = NULL, claimed_at = now(), created_at = now() \
    WHERE (k.status = 'claimed' AND k.claimed_at < now() - $5) OR k.created_at < now() - $6";

const FIND: &str = "SELECT status, body_hash, answer, claimed_at < now() - $4 AS is_late FROM idempotency_keys \
    WHERE user_id = $1 AND route = $2 AND hash = $3";

/// Between finding a key taken and looking who has it, it may be given up.
const TRIES: usize = 3;

text_enum! {
    /// How far the request with a key has come.
    KeyStatus {
        /// It is being answered.
        Claimed = "claimed",
        /// Its work is done.
        Committed = "committed",
        /// Its answer is kept.
        Answered = "answered",
    }
}

/// A key, and the request that wants to be, or is, the one that is answered under it.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// Who sent it.
    pub user_id: Uuid,
    /// Method and canonical path.
    pub route: String,
    /// SHA-256 of the key.
    pub hash: Vec<u8>,
    /// The request, as a fencing token: whoever finds another one there has lost the key.
    pub owner: Uuid,
}

/// What a request finds that comes with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is the first, or takes the place of one that has died: it is to be answered.
    Ours,
    /// Another one is being answered.
    Busy,
    /// Another one has done its work, and its answer was lost, or could not be kept.
    Lost,
    /// Another one was answered.
    Answered {
        /// SHA-256 of its body, if it was read to its end.
        body_hash: Option<Vec<u8>>,
        /// The answer, sealed.
        answer: Vec<u8>,
    },
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    status: KeyStatus,
    #[diesel(sql_type = Nullable<Binary>)]
    body_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    answer: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    is_late: bool,
}

impl Found {
    fn told(self) -> Claimed {
        match (self.status, self.answer) {
            (KeyStatus::Answered, Some(answer)) => Claimed::Answered { body_hash: self.body_hash, answer },
            (KeyStatus::Committed, _) if self.is_late => Claimed::Lost,
            (KeyStatus::Answered, None) => Claimed::Lost,
            (KeyStatus::Claimed | KeyStatus::Committed, _) => Claimed::Busy,
        }
    }
}

impl IdempotencyKey {
    /// How long an answer is given again.
    pub const KEPT: Duration = Duration::from_secs(24 * 3600);

    /// Takes the key, unless another request has it.
    pub async fn claim(&self, conn: &mut AsyncPgConnection) -> QueryResult<Claimed> {
        for _ in 0..TRIES {
            let taken = diesel::sql_query(CLAIM)
                .bind::<SqlUuid, _>(self.user_id)
                .bind::<Text, _>(&self.route)
                .bind::<Binary, _>(&self.hash)
                .bind::<SqlUuid, _>(self.owner)
                .bind::<Interval, _>(super::job_claims::interval(PATIENCE))
                .bind::<Interval, _>(super::job_claims::interval(Self::KEPT))
                .execute(conn)
                .await?;
            if taken == 1 {
                return Ok(Claimed::Ours);
            }
            let found: Option<Found> = diesel::sql_query(FIND)
                .bind::<SqlUuid, _>(self.user_id)
                .bind::<Text, _>(&self.route)
                .bind::<Binary, _>(&self.hash)
                .bind::<Interval, _>(super::job_claims::interval(PATIENCE))
                .get_result(conn)
                .await
                .optional()?;
            if let Some(found) = found {
                return Ok(found.told());
            }
        }
        Ok(Claimed::Busy)
    }

    /// Notes, in the transaction of the work, that the work is done. `false`: another request has the key, and the work is
    /// to be undone.
    pub async fn commit(&self, conn: &mut AsyncPgConnection) -> QueryResult<bool> {
        let held = diesel::update(self.row()).filter(idempotency_keys::owner.eq(self.owner));
        Ok(held.set(idempotency_keys::status.eq(KeyStatus::Committed)).execute(conn).await? == 1)
    }

    /// Keeps the answer, unless another request has the key.
    pub async fn answer(
        &self,
        conn: &mut AsyncPgConnection,
        body_hash: Option<&[u8]>,
        answer: &[u8],
    ) -> QueryResult<()> {
        diesel::update(self.row())
            .filter(idempotency_keys::owner.eq(self.owner))
            .set((
                idempotency_keys::status.eq(KeyStatus::Answered),
                idempotency_keys::body_hash.eq(body_hash),
                idempotency_keys::answer.eq(answer),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Gives the key up, so that a repetition is answered anew; unless another request has it.
    pub async fn forget(&self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        diesel::delete(self.row()).filter(idempotency_keys::owner.eq(self.owner)).execute(conn).await?;
        Ok(())
    }

    fn row(&self) -> diesel::dsl::Find<idempotency_keys::table, (Uuid, &str, &[u8])> {
        idempotency_keys::table.find((self.user_id, self.route.as_str(), self.hash.as_slice()))
    }
}
