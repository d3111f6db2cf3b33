//! Accounts that the operator makes: by the same rules as whoever registers, without a request.

use crate::{
    auth::{
        PasswordPolicy,
        passwords::{Hasher, acceptable},
        registration::{Registration, register, register_in},
    },
    error::ApiError,
    extract::not_blank,
    origin::Origin,
    views::username_rule,
};
use anyhow::{Result, anyhow, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use garde::Validate;
use shared::models::{Role, User};
use uuid::Uuid;

/// An account to be made.
#[derive(Validate)]
#[garde(context(PasswordPolicy))]
pub struct NewAccount {
    /// Compared without case.
    #[garde(email, length(bytes, max = 254))]
    pub email: String,
    /// By the rules of the installation.
    #[garde(custom(acceptable(&self.email)))]
    pub password: String,
    /// Made from the email if there is none.
    #[garde(inner(custom(username_rule)))]
    pub username: Option<String>,
    /// The username if there is none.
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    pub full_name: Option<String>,
    /// The organization to join, and as what; an own one if there is none.
    #[garde(skip)]
    pub place: Option<(Uuid, Role)>,
}

impl NewAccount {
    /// Makes the account.
    ///
    /// # Errors
    /// What of it is not right, for people; and whatever the database says.
    pub async fn create(&self, conn: &mut AsyncPgConnection, policy: PasswordPolicy) -> Result<User> {
        if let Err(report) = self.validate_with(&policy) {
            let problems: Vec<String> = report.iter().map(|(field, error)| format!("{field} {error}")).collect();
            ensure!(problems.is_empty(), "the account cannot be made: {}", problems.join("; "));
        }
        let password_hash = Hasher::new()?.hash(&self.password).await.map_err(told)?;
        let email = self.email.to_lowercase();
        let new = Registration {
            email: &email,
            username: self.username.as_deref(),
            full_name: self.full_name.as_deref(),
            password_hash: &password_hash,
            invitation_token: None,
        };
        let origin = Origin::operator();
        let made = conn.transaction(async |conn| match self.place {
            None => register(conn, &new, &origin).await,
            Some((organization_id, role)) => register_in(conn, &new, organization_id, role, &origin).await,
        });
        made.await.map_err(told)
    }
}

/// What clients would be told, with what they would not.
fn told(error: ApiError) -> anyhow::Error {
    match std::error::Error::source(&error) {
        Some(source) => anyhow!("{}: {source:#}", error.message()),
        None => anyhow!("{}", error.message()),
    }
}
