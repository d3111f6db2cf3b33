//! `atelier admin user`: people and who is let in.

use std::io::BufRead;

use anyhow::{Context, ensure};
use api::NewAccount;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};
use shared::models::{Role, UserLine};

use super::{
    answer::{Answer, at, listed, maybe_at},
    ground::{Ground, unknown},
    organization,
};

/// Length of passwords that are made up.
const PASSWORD: usize = 24;

/// People, and who is let in
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Create(Create),
    Disable(Disable),
    Enable(Enable),
}

/// List users, the newest first
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  atelier admin user list\n  atelier admin user list --organization acme --search ada"
)]
pub(super) struct List {
    /// Only members of this organization: slug or id
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,

    /// Only those whose address or name holds this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

/// Make an account, with an organization of its own or in one that is there
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Without --password-stdin a password is made up and printed this once.

Examples:
  atelier admin user create ada@example.com --full-name 'Ada Lovelace'
  atelier admin user create bob@example.com --organization acme --role manager
  pass show bob | atelier admin user create bob@example.com --password-stdin")]
pub(super) struct Create {
    /// Address to log in with
    email: String,

    /// 3 to 30 letters, digits or underscores [default: made from the address]
    #[arg(long, value_name = "NAME")]
    username: Option<String>,

    /// For people [default: the username]
    #[arg(long, value_name = "NAME")]
    full_name: Option<String>,

    /// Join this organization (slug or id) instead of getting an own one
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,

    /// What the user is in it: admin, manager, member or viewer
    #[arg(long, value_name = "ROLE", default_value = "member", requires = "organization")]
    role: Role,

    /// Take the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Keep a user out: login sessions end and API keys stop, at once
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Nothing of the user is deleted, and `user enable` lets the user in again; the ended sessions stay ended. Jobs that were
accepted go on, and schedules of pipelines that the user has made do, too.

Examples:
  atelier admin user disable ada@example.com
  atelier admin user disable ada --json")]
pub(super) struct Disable {
    /// Address, username or id
    user: String,
}

/// Let a user in again
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  atelier admin user enable ada@example.com")]
pub(super) struct Enable {
    /// Address, username or id
    user: String,
}

pub(super) async fn run(command: Command, ground: &mut Ground) -> anyhow::Result<Answer> {
    match command {
        Command::List(List { organization, search, limit }) => {
            let organization = match organization {
                Some(named) => Some(organization::find(&named, ground).await?.organization.id),
                None => None,
            };
            let found = UserLine::list(&mut ground.conn, organization, search.as_deref(), limit).await?;
            let rows = found.iter().map(row).collect();
            let head = ["email", "username", "organization", "role", "active", "last login", "since"];
            let all: Vec<Value> = found.iter().map(view).collect();
            Ok(Answer::new(json!({ "users": all }), listed(head, rows, "no user fits")))
        }
        Command::Create(new) => create(new, ground).await,
        Command::Disable(Disable { user }) => set_active(&user, false, ground).await,
        Command::Enable(Enable { user }) => set_active(&user, true, ground).await,
    }
}

async fn create(new: Create, ground: &mut Ground) -> anyhow::Result<Answer> {
    let place = match &new.organization {
        Some(named) => Some((organization::find(named, ground).await?.organization.id, new.role)),
        None => None,
    };
    let made_up = (!new.password_stdin).then(made_up_password);
    let password = match &made_up {
        Some(password) => password.clone(),
        None => first_line()?,
    };
    let account = NewAccount { email: new.email, password, username: new.username, full_name: new.full_name, place };
    let user = account.create(&mut ground.conn, ground.password_policy).await?;
    let line = find(&user.id.to_string(), ground).await?;
    let mut json = json!({ "user": view(&line) });
    let mut words = format!("{} is {} in the organization {}", line.email, line.role, line.organization);
    if let Some(password) = made_up {
        words.push_str(&format!("\npassword: {password}"));
        json["password"] = json!(password);
    }
    Ok(Answer::new(json, words))
}

async fn set_active(named: &str, active: bool, ground: &mut Ground) -> anyhow::Result<Answer> {
    let found = find(named, ground).await?;
    let changed = UserLine::set_active(&mut ground.conn, found.id, active).await?;
    let line = find(&found.id.to_string(), ground).await?;
    let state = if active { "let in" } else { "kept out" };
    let again = if changed { "now" } else { "already" };
    let words = format!("{} is {again} {state}", line.email);
    Ok(Answer::new(json!({ "user": view(&line), "changed": changed }), words))
}

async fn find(named: &str, ground: &mut Ground) -> anyhow::Result<UserLine> {
    UserLine::find(&mut ground.conn, named).await?.ok_or_else(|| unknown("user", named, "user list"))
}

/// Fits every policy: it has letters of both cases and a digit.
fn made_up_password() -> String {
    loop {
        let password = Alphanumeric.sample_string(&mut rand::rng(), PASSWORD);
        let has = |what: fn(char) -> bool| password.chars().any(what);
        if has(|c| c.is_ascii_uppercase()) && has(|c| c.is_ascii_lowercase()) && has(|c| c.is_ascii_digit()) {
            return password;
        }
    }
}

fn first_line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the password cannot be read from standard input")?;
    let password = line.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "there is no password on standard input");
    Ok(password.to_owned())
}

fn row(line: &UserLine) -> [String; 7] {
    [
        line.email.clone(),
        line.username.clone(),
        line.organization.clone(),
        line.role.to_string(),
        if line.is_active { "yes" } else { "no" }.to_owned(),
        maybe_at(line.last_login_at),
        at(line.created_at),
    ]
}

fn view(line: &UserLine) -> Value {
    json!({
        "id": line.id,
        "email": line.email,
        "username": line.username,
        "full_name": line.full_name,
        "organization": line.organization,
        "role": line.role,
        "is_active": line.is_active,
        "mfa_enabled": line.mfa_enabled,
        "last_login_at": line.last_login_at,
        "created_at": line.created_at,
    })
}
