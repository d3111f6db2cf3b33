//! Invitations into organizations. The token is nowhere: an invitation is found by the SHA-256 of it.

use super::Role;
use crate::{schema::invitations, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::{dsl::now, prelude::*};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

text_enum! {
    /// What became of an invitation. One that is `pending` and past its time is shown as `expired`, and is stored so when
    /// another one takes its place.
    InvitationStatus {
        /// It can be accepted.
        Pending = "pending",
        /// Somebody has joined with it.
        Accepted = "accepted",
        /// Taken back.
        Revoked = "revoked",
        /// Nobody came in time.
        Expired = "expired",
    }
}

/// An invitation as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = invitations, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Invitation {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub email: String,
    pub role: Role,
    pub status: InvitationStatus,
    pub invited_by: Option<Uuid>,
    pub expires_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// An invitation to be made.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = invitations)]
pub struct NewInvitation<'a> {
    /// Its id.
    pub id: Uuid,
    /// Into which organization.
    pub organization_id: Uuid,
    /// Whom; in lower case.
    pub email: &'a str,
    /// As what.
    pub role: Role,
    /// SHA-256 of the token.
    pub hash: &'a [u8],
    /// By whom.
    pub invited_by: Uuid,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

impl Invitation {
    /// Stores an invitation. `None`: there is an open one for this address.
    pub async fn insert(conn: &mut AsyncPgConnection, new: &NewInvitation<'_>) -> QueryResult<Option<Self>> {
        let outdated = invitations::table
            .filter(invitations::organization_id.eq(new.organization_id).and(invitations::email.eq(new.email)))
            .filter(invitations::status.eq(InvitationStatus::Pending).and(invitations::expires_at.le(now)));
        diesel::update(outdated).set(invitations::status.eq(InvitationStatus::Expired)).execute(conn).await?;
        diesel::insert_into(invitations::table)
            .values(new)
            .on_conflict_do_nothing()
            .returning(Self::as_returning())
            .get_result(conn)
            .await
            .optional()
    }

    /// The invitation of a token, if it can be accepted now.
    pub async fn find_open(conn: &mut AsyncPgConnection, hash: &[u8]) -> QueryResult<Option<Self>> {
        invitations::table
            .filter(invitations::hash.eq(hash))
            .filter(invitations::status.eq(InvitationStatus::Pending).and(invitations::expires_at.gt(now)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// The invitation, if it is one of this organization.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> QueryResult<Option<Self>> {
        invitations::table
            .filter(invitations::id.eq(id).and(invitations::organization_id.eq(organization_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Closes it, if it can still be accepted; `false` if it cannot any more. Of several who try at once, one succeeds.
    pub async fn close(&self, conn: &mut AsyncPgConnection, status: InvitationStatus) -> QueryResult<bool> {
        let open = invitations::table
            .find(self.id)
            .filter(invitations::status.eq(InvitationStatus::Pending).and(invitations::expires_at.gt(now)));
        let closed = diesel::update(open)
            .set((invitations::status.eq(status), invitations::updated_at.eq(now)))
            .execute(conn)
            .await?;
        Ok(closed == 1)
    }

    /// Takes back what a member has sent out and nobody has accepted; returns how many there were.
    pub async fn revoke_of(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        invited_by: Uuid,
    ) -> QueryResult<usize> {
        let open = invitations::table
            .filter(invitations::organization_id.eq(organization_id).and(invitations::invited_by.eq(invited_by)))
            .filter(invitations::status.eq(InvitationStatus::Pending));
        diesel::update(open)
            .set((invitations::status.eq(InvitationStatus::Revoked), invitations::updated_at.eq(now)))
            .execute(conn)
            .await
    }

    /// Its status at this moment.
    pub fn status_now(&self) -> InvitationStatus {
        match self.status {
            InvitationStatus::Pending if self.expires_at <= Utc::now() => InvitationStatus::Expired,
            status @ (InvitationStatus::Pending
            | InvitationStatus::Accepted
            | InvitationStatus::Revoked
            | InvitationStatus::Expired) => status,
        }
    }
}
