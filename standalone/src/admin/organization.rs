//! `atelier admin organization`: tenants, what they pay for and what they may use.

use serde_json::{Value, json};
use shared::models::{Organization, OrganizationLine, Tier};

use super::{
    answer::{Answer, at, listed, or_dash, sheet},
    ground::{Ground, unknown},
    organization_limits::{self, dollars},
};

/// Tenants, their tiers and what they may use
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Show(Show),
    SetTier(SetTier),
    SetLimits(organization_limits::SetLimits),
}

/// List organizations, the newest first
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  atelier admin organization list\n  atelier admin organization list --search acme --json"
)]
pub(super) struct List {
    /// Only those whose name or slug holds this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

/// Show an organization: its tier, its limits, what it has used
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  atelier admin organization show acme\n  atelier admin organization show acme --json"
)]
pub(super) struct Show {
    /// Slug or id
    organization: String,
}

/// Give an organization another tier
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
It counts from the next request on, also for tokens and keys that are out already. Custom limits stay. Jobs that
wait keep the share of turns that they were accepted with.

Examples:
  atelier admin organization set-tier acme pro
  atelier admin organization set-tier 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10 enterprise")]
pub(super) struct SetTier {
    /// Slug or id
    organization: String,

    /// free, basic, pro or enterprise
    tier: Tier,
}

pub(super) async fn run(command: Command, ground: &mut Ground) -> anyhow::Result<Answer> {
    match command {
        Command::List(List { search, limit }) => {
            let found = OrganizationLine::list(&mut ground.conn, search.as_deref(), limit).await?;
            let rows = found.iter().map(|line| row(line, ground)).collect();
            let head = ["slug", "name", "tier", "members", "used this month", "of", "since"];
            let all: Vec<Value> = found.iter().map(|line| view(line, ground)).collect();
            Ok(Answer::new(json!({ "organizations": all }), listed(head, rows, "no organization fits")))
        }
        Command::Show(Show { organization }) => show(&organization, ground).await,
        Command::SetTier(SetTier { organization, tier }) => {
            let found = find(&organization, ground).await?;
            Organization::set_tier(&mut ground.conn, found.organization.id, tier).await?;
            show(&organization, ground).await
        }
        Command::SetLimits(change) => {
            let found = find(&change.organization, ground).await?;
            Organization::set_limits(&mut ground.conn, found.organization.id, &change.change()?).await?;
            show(&change.organization, ground).await
        }
    }
}

/// The organization with this slug or id.
pub(super) async fn find(slug_or_id: &str, ground: &mut Ground) -> anyhow::Result<OrganizationLine> {
    let found = OrganizationLine::find(&mut ground.conn, slug_or_id).await?;
    found.ok_or_else(|| unknown("organization", slug_or_id, "organization list"))
}

async fn show(slug_or_id: &str, ground: &mut Ground) -> anyhow::Result<Answer> {
    let line = find(slug_or_id, ground).await?;
    let view = view(&line, ground);
    let unlimited = |figure: &Value| if figure.is_null() { "unlimited".to_owned() } else { figure.to_string() };
    let custom = |name: &str| view["custom_limits"].get(name).map_or("", |_| " (custom)");
    let limits = ["requests_per_minute", "requests_per_hour", "daily", "weekly", "monthly", "api_quota_limit"];
    let mut rows = vec![
        ("id", line.organization.id.to_string()),
        ("slug", line.organization.slug.clone()),
        ("name", line.organization.name.clone()),
        ("tier", line.organization.subscription_tier.to_string()),
        ("members", line.members.to_string()),
        ("used this month", line.api_quota_used.to_string()),
    ];
    rows.extend(limits.map(|name| (name, unlimited(&view["limits"][name]) + custom(name))));
    rows.extend([
        (
            "monthly_token_budget",
            line.monthly_token_budget.map_or_else(|| "unlimited".to_owned(), |most| most.to_string()),
        ),
        ("tokens used", line.tokens_used.to_string()),
        (
            "monthly_cost_budget",
            line.monthly_cost_budget_nanos
                .map_or_else(|| "unlimited".to_owned(), |nanos| format!("${}", dollars(nanos))),
        ),
        ("spent", format!("${}", dollars(line.cost_used_nanos))),
        ("since", at(line.organization.created_at)),
    ]);
    Ok(Answer::new(json!({ "organization": view }), sheet(rows)))
}

fn row(line: &OrganizationLine, ground: &Ground) -> [String; 7] {
    let organization = &line.organization;
    let limits = ground.limits.for_organization(organization.subscription_tier, organization.custom_limits.as_ref());
    [
        organization.slug.clone(),
        organization.name.clone(),
        organization.subscription_tier.to_string(),
        line.members.to_string(),
        line.api_quota_used.to_string(),
        or_dash(limits.quotas.organization_monthly),
        at(organization.created_at),
    ]
}

fn view(line: &OrganizationLine, ground: &Ground) -> Value {
    let organization = &line.organization;
    let limits = ground.limits.for_organization(organization.subscription_tier, organization.custom_limits.as_ref());
    json!({
        "id": organization.id,
        "slug": organization.slug,
        "name": organization.name,
        "subscription_tier": organization.subscription_tier,
        "members": line.members,
        "api_quota_used": line.api_quota_used,
        "limits": {
            "requests_per_minute": limits.requests_per_minute,
            "requests_per_hour": limits.requests_per_hour,
            "daily": limits.quotas.daily,
            "weekly": limits.quotas.weekly,
            "monthly": limits.quotas.monthly,
            "api_quota_limit": limits.quotas.organization_monthly,
        },
        "custom_limits": organization.custom_limits,
        "monthly_token_budget": line.monthly_token_budget,
        "monthly_cost_budget": line.monthly_cost_budget_nanos.map(dollars),
        "tokens_used": line.tokens_used,
        "cost_used": dollars(line.cost_used_nanos),
        "settings": organization.settings,
        "created_at": organization.created_at,
        "updated_at": organization.updated_at,
    })
}
