//! Organizations, the tenants of an installation, and the roles of their members.

use crate::{
    schema::{memberships, organizations},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

text_enum! {
    /// What an organization has subscribed to; the operator sets it.
    Tier {
        /// The start.
        Free = "free",
        /// The first paid one.
        Basic = "basic",
        /// For regular work.
        Pro = "pro",
        /// Without windows on use.
        Enterprise = "enterprise",
    }
}

impl Tier {
    /// How many turns in the queue an organization gets while one of tier `free` gets one.
    pub const fn weight(self) -> u16 {
        match self {
            Self::Free => 1,
            Self::Basic => 2,
            Self::Pro => 5,
            Self::Enterprise => 10,
        }
    }
}

text_enum! {
    /// What a member may do in an organization, most first.
    Role {
        /// Everything.
        Admin = "admin",
        /// Everything but roles and settings.
        Manager = "manager",
        /// Own work.
        Member = "member",
        /// Reading.
        Viewer = "viewer",
    }
}

/// An organization as stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = organizations, check_for_backend(diesel::pg::Pg))]
pub struct Organization {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// For URLs; unique, follows from the first name and stays.
    pub slug: String,
    /// What it has subscribed to.
    pub subscription_tier: Tier,
    /// `default_ai_model`, `integration_enabled` and whatever its admins added.
    pub settings: Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Organization {
    /// Makes an organization of tier `free`. Violates `organizations_slug_key` if the slug is taken.
    pub async fn insert(conn: &mut AsyncPgConnection, id: Uuid, name: &str, slug: &str) -> QueryResult<Self> {
        diesel::insert_into(organizations::table)
            .values((
                organizations::id.eq(id),
                organizations::name.eq(name),
                organizations::slug.eq(slug),
                organizations::settings.eq(json!({ "default_ai_model": "gpt-4", "integration_enabled": true })),
            ))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// Adds a user to an organization.
    pub async fn insert_member(
        conn: &mut AsyncPgConnection,
        organization_id: Uuid,
        user_id: Uuid,
        role: Role,
    ) -> QueryResult<()> {
        diesel::insert_into(memberships::table)
            .values((
                memberships::organization_id.eq(organization_id),
                memberships::user_id.eq(user_id),
                memberships::role.eq(role),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }
}
