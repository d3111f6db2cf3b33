//! `http`: an answer of somebody else's server.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Settings of an `http` node. Private addresses are refused, redirects are not followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Http {
    /// The method; GET if absent, POST if there is a body.
    pub method: Option<Method>,
    /// The address, a template.
    pub url: Option<String>,
    /// Headers; the values are templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, a template.
    pub body: Option<String>,
    /// The status that is expected; any of 200–299 if absent.
    pub expect_status: Option<u16>,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    #[serde(alias = "get")]
    Get,
    /// Makes.
    #[serde(alias = "post")]
    Post,
    /// Puts in place.
    #[serde(alias = "put")]
    Put,
    /// Changes.
    #[serde(alias = "patch")]
    Patch,
    /// Removes.
    #[serde(alias = "delete")]
    Delete,
}

impl Http {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.template("url", self.url.as_deref());
        if let Some(url) = self.url.as_deref().filter(|url| !url.contains("{{") && !url.contains("{%")) {
            match url::Url::parse(url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => {}
                Ok(_) | Err(_) => findings.note("url", "is to be an http or https URL"),
            }
        }
        if self.headers.len() > 50 {
            findings.note("headers", "are to be at most 50");
        }
        for (name, value) in &self.headers {
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || !name.bytes().all(token) {
                findings.note(&format!("headers.{name}"), "has a name that no header can have");
            }
            findings.template(&format!("headers.{name}"), Some(value));
        }
        findings.template("body", self.body.as_deref());
        findings.within("expect_status", self.expect_status, 100, 599);
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        self.url.is_none().then_some("it has no url")
    }
}
