//! What clients say about webhooks, and what it has to be like.

use crate::{addresses::check_callback, config::Config, extract::not_blank, views::SUBSCRIBABLE};
use base64::{Engine, prelude::BASE64_STANDARD};
use garde::Validate;
use serde::Deserialize;
use shared::addresses::Reach;
use std::collections::HashSet;
use utoipa::ToSchema;

/// Secrets that begin like this are base64 from there on, as the Standard Webhooks specification has it.
const BASE64_SECRET: &str = "whsec_";

/// Longest secret, in characters.
const LONGEST_SECRET: usize = 200;

/// Which addresses may be called back.
pub(crate) struct Callbacks(Reach);

impl From<&Config> for Callbacks {
    fn from(config: &Config) -> Self {
        Self(config.callbacks.clone())
    }
}

/// A webhook to be made.
#[derive(Deserialize, ToSchema, Validate)]
#[garde(context(Callbacks))]
pub(crate) struct CreateWebhook {
    /// Where it is delivered to, by http or https.
    #[garde(length(chars, max = 2048), custom(callable))]
    #[schema(max_length = 2048, example = "https://example.com/hook")]
    pub(super) url: String,
    /// What it wants to hear of.
    #[garde(length(min = 1, max = 100), inner(custom(known)))]
    #[schema(min_items = 1, max_items = 100, example = json!(["execution.completed", "execution.failed"]))]
    pub(super) events: Vec<String>,
    /// The host of the URL unless it is given.
    #[garde(length(chars, max = 200), inner(custom(not_blank)))]
    #[schema(max_length = 200)]
    pub(super) name: Option<String>,
    /// What deliveries are signed with; made up unless it is given. `whsec_` is followed by base64.
    #[garde(custom(usable))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) secret: Option<String>,
    /// The same as `secret`.
    #[garde(custom(usable), custom(same_as(&self.secret, "secret")))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) secret_key: Option<String>,
    /// `true` unless it is given.
    #[garde(skip)]
    pub(super) active: Option<bool>,
    /// The same as `active`.
    #[garde(custom(same_as(&self.active, "active")))]
    pub(super) is_active: Option<bool>,
    /// One delivery at a time, in the order of the events; `false` unless it is given.
    #[garde(skip)]
    pub(super) ordered: Option<bool>,
}

/// What is to change in a webhook; what is not sent stays.
#[derive(Deserialize, ToSchema, Validate)]
#[garde(context(Callbacks))]
pub(crate) struct UpdateWebhook {
    #[garde(length(chars, max = 2048), inner(custom(callable)))]
    #[schema(max_length = 2048)]
    pub(super) url: Option<String>,
    /// Replaces the whole.
    #[garde(length(min = 1, max = 100), inner(inner(custom(known))))]
    #[schema(min_items = 1, max_items = 100)]
    pub(super) events: Option<Vec<String>>,
    #[garde(length(chars, max = 200), inner(custom(not_blank)))]
    #[schema(max_length = 200)]
    pub(super) name: Option<String>,
    /// Replaces the one before at once; `rotate-secret` lets both sign for a while.
    #[garde(custom(usable))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) secret: Option<String>,
    /// The same as `secret`.
    #[garde(custom(usable), custom(same_as(&self.secret, "secret")))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) secret_key: Option<String>,
    /// Switched on again, it starts without failures.
    #[garde(skip)]
    pub(super) active: Option<bool>,
    /// The same as `active`.
    #[garde(custom(same_as(&self.active, "active")))]
    pub(super) is_active: Option<bool>,
    #[garde(skip)]
    pub(super) ordered: Option<bool>,
}

/// A new secret, as the specification has it.
pub(super) fn new_secret() -> String {
    format!("{BASE64_SECRET}{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// The events, each once.
pub(super) fn distinct(events: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    events.into_iter().filter(|event| seen.insert(event.clone())).collect()
}

fn callable(url: &str, callbacks: &Callbacks) -> garde::Result {
    check_callback(url, &callbacks.0).map_err(garde::Error::new)
}

fn known(event: &str, _: &Callbacks) -> garde::Result {
    if SUBSCRIBABLE.contains(&event) {
        return Ok(());
    }
    Err(garde::Error::new(format!("is no event to subscribe to; there are: {}", SUBSCRIBABLE.join(", "))))
}

fn usable(secret: &Option<String>, _: &Callbacks) -> garde::Result {
    let Some(secret) = secret else { return Ok(()) };
    if secret.is_empty() || secret.chars().count() > LONGEST_SECRET {
        return Err(garde::Error::new(format!("must have between 1 and {LONGEST_SECRET} characters")));
    }
    match secret.strip_prefix(BASE64_SECRET).map(|key| BASE64_STANDARD.decode(key)) {
        Some(Ok(key)) if !key.is_empty() => Ok(()),
        Some(_) => Err(garde::Error::new("must go on in base64 after whsec_")),
        None => Ok(()),
    }
}

fn same_as<'a, T: PartialEq>(
    other: &'a Option<T>,
    name: &'static str,
) -> impl FnOnce(&Option<T>, &Callbacks) -> garde::Result + 'a {
    move |this, _| match (this, other) {
        (Some(this), Some(other)) if this != other => {
            Err(garde::Error::new(format!("differs from {name}; send one of them")))
        }
        (_, _) => Ok(()),
    }
}
