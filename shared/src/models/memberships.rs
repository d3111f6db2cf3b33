//! Who belongs to which organization, as what, and what follows when somebody does not any more.
//!
//! Who changes the members of an organization holds the [organization](Organization::hold) first and the user second, and
//! looks at the memberships only then.

use super::{AuditEntry, NewAudit, Organization, Role};
use crate::schema::{memberships, organizations, pipeline_schedules, users};
use chrono::{DateTime, Utc};
use diesel::{
    dsl::{exists, now, select},
    prelude::*,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

/// Somebody's place in an organization.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = memberships, check_for_backend(diesel::pg::Pg))]
pub struct Membership {
    /// Where.
    pub organization_id: Uuid,
    /// Who.
    pub user_id: Uuid,
    /// As what.
    pub role: Role,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

impl Membership {
    /// Adds a user to an organization; `false` if the user is in it already.
    pub async fn insert(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        user_id: Uuid,
        role: Role,
    ) -> QueryResult<bool> {
        let added = diesel::insert_into(memberships::table)
            .values((
                memberships::organization_id.eq(organization_id),
                memberships::user_id.eq(user_id),
                memberships::role.eq(role),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        Ok(added == 1)
    }

    /// The place of a user in an organization.
    pub async fn find(conn: &mut AsyncPgConnection, organization_id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        memberships::table.find((organization_id, user_id)).select(Self::as_select()).first(conn).await.optional()
    }

    /// Whether a member of the organization has this address.
    pub async fn has_email(conn: &mut AsyncPgConnection, organization_id: Uuid, email: &str) -> QueryResult<bool> {
        let there = memberships::table
            .inner_join(users::table)
            .filter(memberships::organization_id.eq(organization_id).and(users::email.eq(email)));
        select(exists(there)).get_result(conn).await
    }

    /// Whether nobody else is an admin there. The organization is held.
    pub async fn is_last_admin(&self, conn: &mut AsyncPgConnection) -> QueryResult<bool> {
        Ok(self.role == Role::Admin && self.find_other_admin(conn).await?.is_none())
    }

    /// The admin who has been there longest, this member aside.
    pub(super) async fn find_other_admin(&self, conn: &mut AsyncPgConnection) -> QueryResult<Option<Uuid>> {
        memberships::table
            .filter(memberships::organization_id.eq(self.organization_id))
            .filter(memberships::role.eq(Role::Admin).and(memberships::user_id.ne(self.user_id)))
            .order((memberships::joined_at, memberships::user_id))
            .select(memberships::user_id)
            .first(conn)
            .await
            .optional()
    }

    /// Gives the member another role. The organization is held.
    pub async fn set_role(&self, conn: &mut AsyncPgConnection, role: Role) -> QueryResult<()> {
        diesel::update(memberships::table.find((self.organization_id, self.user_id)))
            .set(memberships::role.eq(role))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Makes an organization of the user the current one; `false` if the user is no member.
    pub async fn make_current(conn: &mut AsyncPgConnection, organization_id: Uuid, user_id: Uuid) -> QueryResult<bool> {
        hold_user(conn, user_id).await?;
        if Self::find(conn, organization_id, user_id).await?.is_none() {
            return Ok(false);
        }
        set_current(conn, user_id, organization_id).await?;
        Ok(true)
    }

    /// Ends the membership. The organization is held.
    ///
    /// The member's schedules there go on as those of the admin who has been there longest: an organization does not lose
    /// its nightly runs with a person, and nobody pays with the own quota for an organization left behind. If the
    /// organization was the current one, another one of the user becomes it, the latest joined first, or a new personal one.
    pub async fn end(&self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        let Self { organization_id, user_id, .. } = *self;
        if let Some(heir) = self.find_other_admin(conn).await? {
            self.hand_over_schedules(conn, heir).await?;
        }
        let (current, full_name) = hold_user(conn, user_id).await?;
        diesel::delete(memberships::table.find((organization_id, user_id))).execute(conn).await?;
        if current != organization_id {
            return Ok(());
        }
        let other: Option<Uuid> = memberships::table
            .filter(memberships::user_id.eq(user_id))
            .order((memberships::joined_at.desc(), memberships::organization_id.desc()))
            .select(memberships::organization_id)
            .first(conn)
            .await
            .optional()?;
        let next = match other {
            Some(id) => id,
            None => personal(conn, user_id, &full_name).await?,
        };
        set_current(conn, user_id, next).await
    }

    /// The member's schedules in the organization become those of another member.
    pub(super) async fn hand_over_schedules(&self, conn: &mut AsyncPgConnection, heir: Uuid) -> QueryResult<()> {
        let theirs = pipeline_schedules::table
            .filter(pipeline_schedules::organization_id.eq(self.organization_id))
            .filter(pipeline_schedules::created_by.eq(self.user_id));
        diesel::update(theirs).set(pipeline_schedules::created_by.eq(heir)).execute(conn).await?;
        Ok(())
    }
}

/// Keeps the user's current organization as it is until the transaction ends. Returns it, with the user's name.
async fn hold_user(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<(Uuid, String)> {
    users::table.find(user_id).select((users::organization_id, users::full_name)).for_no_key_update().first(conn).await
}

async fn set_current(conn: &mut AsyncPgConnection, user_id: Uuid, organization_id: Uuid) -> QueryResult<()> {
    diesel::update(users::table.find(user_id))
        .set((users::organization_id.eq(organization_id), users::updated_at.eq(now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// A new organization for somebody who has none left.
async fn personal(conn: &mut AsyncPgConnection, user_id: Uuid, name: &str) -> QueryResult<Uuid> {
    let Organization { id, .. } = Organization::create(conn, name).await?;
    Membership::insert(conn, id, user_id, Role::Admin).await?;
    let entry = NewAudit {
        organization_id: id,
        actor_id: None,
        action: "organization.created",
        target_type: "organization",
        target_id: Some(id),
        data: json!({ "name": name, "personal": true }),
        ip: None,
        request_id: None,
    };
    AuditEntry::insert(conn, entry).await?;
    Ok(id)
}

/// Organizations of this user, held, in the order of their ids.
pub(super) async fn hold_all_of(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<Vec<Membership>> {
    let ids: Vec<Uuid> = memberships::table
        .filter(memberships::user_id.eq(user_id))
        .select(memberships::organization_id)
        .load(conn)
        .await?;
    let _: Vec<Uuid> = organizations::table
        .filter(organizations::id.eq_any(ids))
        .order(organizations::id)
        .select(organizations::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    memberships::table
        .filter(memberships::user_id.eq(user_id))
        .order(memberships::organization_id)
        .select(Membership::as_select())
        .load(conn)
        .await
}
