//! Organizations, the tenants of an installation, and the roles of their members.

use crate::{schema::organizations, text_enum::text_enum};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Int4, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

/// Longest slug before its ending.
const SLUG_CHARS: usize = 60;

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
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
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
    /// Figures that the operator set in place of those of the tier.
    pub custom_limits: Option<Value>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// An organization as one of its members sees it.
#[derive(Debug, Clone, QueryableByName)]
pub struct OrganizationOfMember {
    /// The organization.
    #[diesel(embed)]
    pub organization: Organization,
    /// What the member is in it.
    #[diesel(sql_type = Text)]
    pub role: Role,
    /// Metered requests of all members in this month (UTC).
    #[diesel(sql_type = BigInt)]
    pub api_quota_used: i64,
}

#[derive(QueryableByName)]
struct Size {
    #[diesel(sql_type = Int4)]
    bytes: i32,
}

impl Organization {
    /// Makes an organization of tier `free`. Its slug follows from its name.
    pub async fn create(conn: &mut AsyncPgConnection, name: &str) -> QueryResult<Self> {
        let plain = slug(name);
        match Self::insert(conn, name, &plain).await? {
            Some(made) => Ok(made),
            None => {
                let ending = Uuid::new_v4().simple().to_string();
                let made = Self::insert(conn, name, &format!("{plain}-{}", &ending[..8])).await?;
                made.ok_or(diesel::result::Error::NotFound)
            }
        }
    }

    /// `None`: the slug is taken.
    async fn insert(conn: &mut AsyncPgConnection, name: &str, slug: &str) -> QueryResult<Option<Self>> {
        diesel::insert_into(organizations::table)
            .values((
                organizations::id.eq(Uuid::now_v7()),
                organizations::name.eq(name),
                organizations::slug.eq(slug),
                organizations::settings.eq(json!({ "default_ai_model": "gpt-4", "integration_enabled": true })),
            ))
            .on_conflict(organizations::slug)
            .do_nothing()
            .returning(Self::as_returning())
            .get_result(conn)
            .await
            .optional()
    }

    /// The organization, whoever asks.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        organizations::table.find(id).select(Self::as_select()).first(conn).await
    }

    /// Holds the organization until the transaction ends; `None`: there is none.
    ///
    /// Whoever changes its members holds it first, and only then looks at them: what is decided by who is an admin stays
    /// true, and nobody waits in a circle. It keeps nobody from working in the organization.
    pub async fn hold(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        organizations::table.find(id).select(Self::as_select()).for_no_key_update().first(conn).await.optional()
    }

    /// Changes what is given and nothing else; settings are merged key by key. Returns how many bytes the settings have
    /// now.
    pub async fn update(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        name: Option<&str>,
        settings: Option<&Value>,
    ) -> QueryResult<usize> {
        // merged in the statement, so that two changes at once do not undo each other
        let size: Size = diesel::sql_query(
            "UPDATE organizations SET name = COALESCE($2, name), settings = settings || COALESCE($3, '{}'), \
                 updated_at = now() \
             WHERE id = $1 RETURNING octet_length(settings::text) AS bytes",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<Text>, _>(name)
        .bind::<Nullable<Jsonb>, _>(settings)
        .get_result(conn)
        .await?;
        Ok(usize::try_from(size.bytes).unwrap_or_default())
    }
}

impl OrganizationOfMember {
    /// What is selected, for lists.
    pub const COLUMNS: &str = "o.*, m.role, COALESCE(w.used, 0) AS api_quota_used";

    /// From where: organizations `o` with memberships `m`.
    pub const FROM: &str = "memberships m JOIN organizations o ON o.id = m.organization_id \
        LEFT JOIN quota_windows w ON w.scope = o.id AND w.period = 'monthly' \
            AND w.starts = date_trunc('month', now() AT TIME ZONE 'UTC')::date";

    /// The organization, if this user is a member.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!(
            "SELECT {} FROM {} WHERE m.organization_id = $1 AND m.user_id = $2",
            Self::COLUMNS,
            Self::FROM
        ))
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(user_id)
        .get_result(conn)
        .await
        .optional()
    }
}

/// A name for URLs.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase).take(SLUG_CHARS) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "organization".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_only_what_a_url_likes() {
        for (name, expected) in [
            ("Ada Lovelace", "ada-lovelace"),
            ("  Müller & Söhne GmbH ", "m-ller-s-hne-gmbh"),
            ("株式会社", "organization"),
        ] {
            assert_eq!(slug(name), expected);
        }
    }
}
