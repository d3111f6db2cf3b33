//! What an operator sees and changes of organizations and their people. Every change is an entry in the log of the
//! organizations concerned, made by nobody of theirs.

use super::{AuditEntry, LoginSession, NewAudit, Organization, Role, Tier};
use crate::schema::{memberships, organizations, users};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An organization with what it has and may use.
#[derive(Debug, Clone, QueryableByName)]
pub struct OrganizationLine {
    /// The organization.
    #[diesel(embed)]
    pub organization: Organization,
    /// How many people are in it.
    #[diesel(sql_type = BigInt)]
    pub members: i64,
    /// Metered requests of all members in this month (UTC).
    #[diesel(sql_type = BigInt)]
    pub api_quota_used: i64,
    /// Tokens that language models may use in a month; none: any number.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub monthly_token_budget: Option<i64>,
    /// What language models may cost in a month, in 10^-9 US dollars; none: anything.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub monthly_cost_budget_nanos: Option<i64>,
    /// Tokens used of that in this month.
    #[diesel(sql_type = BigInt)]
    pub tokens_used: i64,
    /// Spent of that in this month, in 10^-9 US dollars.
    #[diesel(sql_type = BigInt)]
    pub cost_used_nanos: i64,
}

/// Somebody with the place in the current organization.
#[derive(Debug, Clone, QueryableByName)]
#[expect(missing_docs, reason = "the columns are explained in the migrations that make them")]
pub struct UserLine {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub username: String,
    #[diesel(sql_type = Text)]
    pub full_name: String,
    #[diesel(sql_type = Bool)]
    pub is_active: bool,
    #[diesel(sql_type = Bool)]
    pub mfa_enabled: bool,
    /// Slug of the current organization.
    #[diesel(sql_type = Text)]
    pub organization: String,
    /// The role in it, or in the organization that was asked for.
    #[diesel(sql_type = Text)]
    pub role: Role,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_login_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// A figure that an operator gives an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomFigure {
    /// This one.
    Most(i64),
    /// No limit.
    Unlimited,
    /// That of the tier again.
    OfTier,
}

/// What an operator changes of what an organization may use; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct CustomLimits {
    /// Those of its tier count again, before the others are changed.
    pub reset: bool,
    /// Keys of `custom_limits`.
    pub figures: Vec<(&'static str, CustomFigure)>,
    /// Tokens a month; `Some(None)` for any number.
    pub token_budget: Option<Option<i64>>,
    /// 10^-9 US dollars a month; `Some(None)` for any sum.
    pub cost_budget_nanos: Option<Option<i64>>,
}

const ORGANIZATIONS: &str = "SELECT o.*, \
        (SELECT count(*) FROM memberships m WHERE m.organization_id = o.id) AS members, \
        COALESCE(w.used, 0) AS api_quota_used, o.monthly_token_budget, o.monthly_cost_budget_nanos, \
        COALESCE(b.tokens_used, 0) AS tokens_used, COALESCE(b.cost_used_nanos, 0) AS cost_used_nanos \
    FROM organizations o \
    LEFT JOIN quota_windows w ON w.scope = o.id AND w.period = 'monthly' \
        AND w.starts = date_trunc('month', now() AT TIME ZONE 'UTC')::date \
    LEFT JOIN budgets b ON b.scope = o.id AND b.period = date_trunc('month', now() AT TIME ZONE 'UTC')::date";

impl OrganizationLine {
    /// The newest organizations whose name or slug holds `search`.
    pub async fn list(conn: &mut AsyncPgConnection, search: Option<&str>, limit: i64) -> QueryResult<Vec<Self>> {
        diesel::sql_query(format!(
            "{ORGANIZATIONS} WHERE $1 IS NULL OR strpos(lower(o.name), lower($1)) > 0 OR strpos(o.slug, lower($1)) > 0 \
             ORDER BY o.id DESC LIMIT $2"
        ))
        .bind::<Nullable<Text>, _>(search)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await
    }

    /// The organization with this slug or id.
    pub async fn find(conn: &mut AsyncPgConnection, slug_or_id: &str) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!("{ORGANIZATIONS} WHERE o.slug = $1 OR o.id = $2"))
            .bind::<Text, _>(slug_or_id)
            .bind::<Nullable<SqlUuid>, _>(slug_or_id.parse::<Uuid>().ok())
            .get_result(conn)
            .await
            .optional()
    }
}

impl Organization {
    /// Gives an organization another tier. It counts from the next request on; jobs that wait keep their share of
    /// turns.
    pub async fn set_tier(conn: &mut AsyncPgConnection, id: Uuid, tier: Tier) -> QueryResult<()> {
        conn.transaction(async |conn| {
            let before = Self::hold(conn, id).await?.ok_or(diesel::result::Error::NotFound)?;
            if before.subscription_tier == tier {
                return Ok(());
            }
            diesel::update(organizations::table.find(id))
                .set((organizations::subscription_tier.eq(tier), organizations::updated_at.eq(diesel::dsl::now)))
                .execute(conn)
                .await?;
            let data = json!({ "from": before.subscription_tier, "to": tier });
            AuditEntry::insert(conn, entry(id, "organization.tier_changed", ("organization", id), data)).await
        })
        .await
    }

    /// Changes what an organization may use beside its tier's figures. It counts from the next request on.
    pub async fn set_limits(conn: &mut AsyncPgConnection, id: Uuid, change: &CustomLimits) -> QueryResult<()> {
        conn.transaction(async |conn| {
            let before = Self::hold(conn, id).await?.ok_or(diesel::result::Error::NotFound)?;
            let kept = before.custom_limits.as_ref().and_then(Value::as_object).filter(|_| !change.reset);
            let limits = merged(kept.cloned().unwrap_or_default(), &change.figures);
            let (tokens, cost) = (change.token_budget, change.cost_budget_nanos);
            diesel::sql_query(
                "UPDATE organizations SET custom_limits = $2, updated_at = now(), \
                     monthly_token_budget = CASE WHEN $3 THEN $4 ELSE monthly_token_budget END, \
                     monthly_cost_budget_nanos = CASE WHEN $5 THEN $6 ELSE monthly_cost_budget_nanos END \
                 WHERE id = $1",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<Nullable<Jsonb>, _>(&limits)
            .bind::<Bool, _>(tokens.is_some() || change.reset)
            .bind::<Nullable<BigInt>, _>(tokens.flatten())
            .bind::<Bool, _>(cost.is_some() || change.reset)
            .bind::<Nullable<BigInt>, _>(cost.flatten())
            .execute(conn)
            .await?;
            let mut data = json!({ "from": before.custom_limits, "to": limits });
            if let Some(tokens) = tokens {
                data["monthly_token_budget"] = json!(tokens);
            }
            if let Some(cost) = cost {
                data["monthly_cost_budget_nanos"] = json!(cost);
            }
            AuditEntry::insert(conn, entry(id, "organization.limits_changed", ("organization", id), data)).await
        })
        .await
    }
}

impl UserLine {
    /// The newest users, of one organization or all, whose address or name holds `search`.
    pub async fn list(
        conn: &mut AsyncPgConnection,
        organization_id: Option<Uuid>,
        search: Option<&str>,
        limit: i64,
    ) -> QueryResult<Vec<Self>> {
        diesel::sql_query(
            "SELECT u.id, u.email, u.username, u.full_name, u.is_active, u.mfa_enabled, u.last_login_at, u.created_at, \
                 o.slug AS organization, m.role \
             FROM users u JOIN organizations o ON o.id = u.organization_id \
                 JOIN memberships m ON m.user_id = u.id AND m.organization_id = COALESCE($1, u.organization_id) \
             WHERE $2 IS NULL OR strpos(u.email, lower($2)) > 0 OR strpos(lower(u.username), lower($2)) > 0 \
                 OR strpos(lower(u.full_name), lower($2)) > 0 \
             ORDER BY u.id DESC LIMIT $3",
        )
        .bind::<Nullable<SqlUuid>, _>(organization_id)
        .bind::<Nullable<Text>, _>(search)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await
    }

    /// The user with this address, username or id.
    pub async fn find(conn: &mut AsyncPgConnection, named: &str) -> QueryResult<Option<Self>> {
        diesel::sql_query(
            "SELECT u.id, u.email, u.username, u.full_name, u.is_active, u.mfa_enabled, u.last_login_at, u.created_at, \
                 o.slug AS organization, m.role \
             FROM users u JOIN organizations o ON o.id = u.organization_id \
                 JOIN memberships m ON m.user_id = u.id AND m.organization_id = u.organization_id \
             WHERE u.email = lower($1) OR lower(u.username) = lower($1) OR u.id = $2",
        )
        .bind::<Text, _>(named)
        .bind::<Nullable<SqlUuid>, _>(named.parse::<Uuid>().ok())
        .get_result(conn)
        .await
        .optional()
    }

    /// Lets a user in, or keeps the user out: then all login sessions end, and every credential is refused from the
    /// next request on. `false`: it was so already.
    pub async fn set_active(conn: &mut AsyncPgConnection, id: Uuid, active: bool) -> QueryResult<bool> {
        conn.transaction(async |conn| {
            let changed = diesel::update(users::table.find(id).filter(users::is_active.ne(active)))
                .set((users::is_active.eq(active), users::updated_at.eq(diesel::dsl::now)))
                .execute(conn)
                .await?;
            if changed == 0 {
                return Ok(false);
            }
            let ended = if active { 0 } else { LoginSession::end_all(conn, id).await? };
            let places = memberships::table.filter(memberships::user_id.eq(id)).order(memberships::organization_id);
            let places: Vec<Uuid> = places.select(memberships::organization_id).load(conn).await?;
            let action = if active { "user.enabled" } else { "user.disabled" };
            for organization_id in places {
                let data = if active { json!({}) } else { json!({ "sessions_ended": ended }) };
                AuditEntry::insert(conn, entry(organization_id, action, ("user", id), data)).await?;
            }
            Ok(true)
        })
        .await
    }
}

/// An entry of the log that nobody of the organization has made.
fn entry(organization_id: Uuid, action: &'static str, target: (&'static str, Uuid), data: Value) -> NewAudit<'static> {
    NewAudit {
        organization_id,
        actor_id: None,
        action,
        target_type: target.0,
        target_id: Some(target.1),
        data,
        ip: None,
        request_id: None,
    }
}

/// The custom figures after a change; none if all are those of the tier.
fn merged(mut limits: Map<String, Value>, figures: &[(&'static str, CustomFigure)]) -> Option<Value> {
    for (name, figure) in figures {
        match figure {
            CustomFigure::Most(most) => limits.insert((*name).to_owned(), json!(most)),
            CustomFigure::Unlimited => limits.insert((*name).to_owned(), Value::Null),
            CustomFigure::OfTier => limits.remove(*name),
        };
    }
    (!limits.is_empty()).then_some(Value::Object(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_figures_are_set_lifted_and_given_back_one_by_one() {
        let none = Map::new();
        let some = merged(none, &[("daily", CustomFigure::Most(5)), ("weekly", CustomFigure::Unlimited)]);
        assert_eq!(some, Some(json!({ "daily": 5, "weekly": null })));
        let some = some.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        let fewer = merged(some.clone(), &[("daily", CustomFigure::OfTier)]);
        assert_eq!(fewer, Some(json!({ "weekly": null })));
        assert_eq!(merged(some, &[("daily", CustomFigure::OfTier), ("weekly", CustomFigure::OfTier)]), None);
    }
}
