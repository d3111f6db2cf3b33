//! The demo user: registered at the first tour, logged in at later ones.

use std::{fs, path::Path};

use anyhow::Context;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Client, Refusal};
use crate::{services::secret, terminal::Terminal};

const EMAIL: &str = "demo@atelier.example";

/// What the demo user logs in with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) email: String,
    pub(super) password: String,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
}

/// Logs in, after registering if need be.
pub(super) async fn enter(client: Client, data: &Path, terminal: &Terminal) -> anyhow::Result<(Client, Login)> {
    let note = data.join("demo-user.json");
    let known: Option<Login> = fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(login) = known
        && let Some(tokens) = log_in(&client, &login).await.context("cannot log in")?
    {
        terminal.say(format_args!("  logged in as {}", login.email));
        return Ok((client.with_token(tokens.access_token), login));
    }
    let (login, tokens) = register(&client).await.context("cannot register")?;
    secret::write(&note, &serde_json::to_string_pretty(&login)?)?;
    terminal.say(format_args!("  registered {}", login.email));
    Ok((client.with_token(tokens.access_token), login))
}

/// Nothing if the user is unknown, as in a database that was made since.
async fn log_in(client: &Client, login: &Login) -> anyhow::Result<Option<Tokens>> {
    let answer = client.post("/auth/login", &json!(login)).await;
    answer.map(Some).or_else(|error| match status(&error) {
        Some(StatusCode::UNAUTHORIZED) => Ok(None),
        Some(_) | None => Err(error),
    })
}

async fn register(client: &Client) -> anyhow::Result<(Login, Tokens)> {
    // The digit satisfies every policy on passwords, whatever the rest turns out to be.
    let password = || format!("{}-7", secret::random());
    let login = Login { email: EMAIL.to_owned(), password: password() };
    let answer = try_register(client, &login).await;
    match answer {
        Ok(tokens) => Ok((login, tokens)),
        // The user is there but its password is not: another data folder was used with this database.
        Err(error) if status(&error) == Some(StatusCode::CONFLICT) => {
            let suffix = secret::random()[..8].to_lowercase();
            let login = Login { email: EMAIL.replace('@', &format!("-{suffix}@")), password: password() };
            let tokens = try_register(client, &login).await?;
            Ok((login, tokens))
        }
        Err(error) => Err(error),
    }
}

async fn try_register(client: &Client, login: &Login) -> anyhow::Result<Tokens> {
    let body = json!({"email": login.email, "password": login.password, "full_name": "Demo"});
    client.post("/auth/register", &body).await
}

fn status(error: &anyhow::Error) -> Option<StatusCode> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.status)
}
