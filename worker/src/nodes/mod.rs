//! A file a type of node. A node is a function from what arrives to an output.
//!
//! Where to look: `graph` decides which node runs when, `attempt` is the life of one node (tries, timeout, what follows a
//! failure, its record), `output` is what nodes hand on, `scope` what they know, `ran` what differs between pipelines and orchestrations.

mod attempt;
mod condition;
mod delay;
mod graph;
mod http;
mod image;
mod image_analysis;
mod input;
mod integration;
mod llm;
mod map;
mod merge;
mod names;
mod output;
mod ran;
mod scope;
mod template;
mod transform;

pub(crate) use graph::{Walked, walk};
pub(crate) use output::{Output, preview};
pub(crate) use ran::Ran;
pub(crate) use scope::{Run, Scope};

use crate::outcome::Stop;
use chrono::{DateTime, Utc};
use scope::Arrived;
use shared::{
    models::Failure,
    pipeline::{Kind, Node},
};

/// Why a node gave nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It failed.
    Node(Flaw),
    /// Not now: nothing is lost if it is asked again then, by this attempt or a later one.
    Wait(Wait),
    /// The attempt of the job ends.
    Stop(Stop),
}

/// When a node can go on.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) until: DateTime<Utc>,
    /// For people.
    pub(crate) reason: String,
}

/// What went wrong with a node.
#[derive(Debug, Clone)]
pub(crate) struct Flaw {
    pub(crate) failure: Failure,
    /// Whether the same may work later.
    pub(crate) passing: bool,
}

impl Trouble {
    /// What will not work later either.
    fn lasting(message: impl Into<String>) -> Self {
        Self::flaw("node_failed", message, false)
    }

    /// What may work later.
    fn passing(message: impl Into<String>) -> Self {
        Self::flaw("node_failed", message, true)
    }

    /// An operation did not work. `passing`: it may work later.
    fn integration(message: impl Into<String>, passing: bool) -> Self {
        Self::flaw("integration_error", message, passing)
    }

    /// Others change the same thing all the time.
    fn overtaken() -> Self {
        Self::integration("Others changed it at the same time, again and again.", true)
    }

    fn flaw(code: &str, message: impl Into<String>, passing: bool) -> Self {
        Self::Node(Flaw { failure: Failure { code: code.to_owned(), message: message.into() }, passing })
    }
}

impl<S: Into<Stop>> From<S> for Trouble {
    fn from(stop: S) -> Self {
        Self::Stop(stop.into())
    }
}

/// Runs a node once.
async fn run(scope: &Scope<'_>, node: &Node, name: &str, arrived: &Arrived) -> Result<Output, Trouble> {
    match &node.kind {
        Kind::Input(config) => input::run(scope, &node.id, config),
        Kind::Openai(config) | Kind::Llm(config) => llm::run(scope, name, config, arrived).await,
        Kind::Prompt(config) => {
            let source = config.template.as_deref().unwrap_or_default();
            Ok(Output::text(template::render(scope, arrived, source)?))
        }
        Kind::Transform(config) => transform::run(config, arrived),
        Kind::Condition(config) => condition::run(scope, config, arrived),
        Kind::Merge(config) => Ok(merge::run(config, arrived)),
        Kind::Map(config) => map::run(scope, name, config, arrived).await,
        Kind::Http(config) => http::run(scope, name, node, config, arrived).await,
        Kind::ImageAnalysis(config) => image_analysis::run(scope, name, config, arrived).await,
        Kind::Delay(_) => Ok(arrived.pass()),
        Kind::Output(config) => match &config.template {
            Some(source) => Ok(Output::text(template::render(scope, arrived, source)?)),
            None => Ok(arrived.pass()),
        },
        Kind::Integration(integration) => integration::run(scope, name, integration, arrived).await,
    }
}

/// Whether a node ends as soon as it begins, so that its beginning is not worth telling.
const fn is_instant(kind: &Kind) -> bool {
    match kind {
        Kind::Input(_)
        | Kind::Prompt(_)
        | Kind::Transform(_)
        | Kind::Condition(_)
        | Kind::Merge(_)
        | Kind::Output(_) => true,
        Kind::Openai(_)
        | Kind::Llm(_)
        | Kind::Map(_)
        | Kind::Http(_)
        | Kind::ImageAnalysis(_)
        | Kind::Delay(_)
        | Kind::Integration(_) => false,
    }
}
