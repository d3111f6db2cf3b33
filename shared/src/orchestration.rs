//! What an orchestration is made of: its steps, in order, and the pipeline that runs them.
//!
//! The steps follow from the row alone, so that whoever accepts an orchestration, runs it or shows it knows the same ones.
//! Each waits for the one before: a phase sees the answers of all earlier ones, and what a phase leaves is kept before the
//! next one begins.

mod deploy_hook;
mod names;

pub use deploy_hook::{DEPLOY_HOOK_SECRET, DEPLOY_HOOK_URL, keep_secret, without_secret};
pub use names::{phase_filename, summary_filename, template_integrations, template_phases, title_case};

use crate::{
    models::Orchestration,
    pipeline::{Connection, Definition, Input, InputType, Integration, Kind, Llm, Node, OnError, Retry, Settings},
};
use names::slug;
use serde_json::{Value, json};

/// The phases of an orchestration that names none.
pub const DEFAULT_PHASES: [&str; 7] =
    ["Ideation", "Research", "Design", "Implementation", "Testing", "Deployment", "Review"];

/// Most phases.
pub const MAX_PHASES: usize = 20;

/// Most characters of a phase's name.
pub const MAX_PHASE_NAME: usize = 100;

/// The first step: what every phase is told.
const START: &str = "run";

/// Who the model is.
const SYSTEM: &str = "You carry a project through its phases, one phase at a time. Build on what the earlier phases \
    found, do what the current phase asks for and nothing else, and answer in Markdown.";

/// How often a phase is asked for whose model fails in a way that may pass.
const PHASE_TRIES: Retry = Retry { attempts: 3, backoff_ms: 1_000 };

/// The same for operations.
const OPERATION_TRIES: Retry = Retry { attempts: 3, backoff_ms: 500 };

/// How long one try of an operation may take, in seconds.
const OPERATION_TIMEOUT: u64 = 120;

/// Least characters of each earlier answer that a phase is shown, however little room there is.
const LEAST_SHOWN: usize = 200;

/// One step of an orchestration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub step: String,
    /// What it does.
    pub part: Part,
}

/// What a step of an orchestration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Notes what the phases are told.
    Start,
    /// Lets a model do this phase, counted from 0.
    Phase(usize),
    /// Does something outside.
    Operation(Integration),
}

impl Planned {
    fn new(step: impl Into<String>, part: Part) -> Self {
        Self { step: step.into(), part }
    }

    /// The operation that it is.
    pub const fn operation(&self) -> Option<&Integration> {
        match &self.part {
            Part::Operation(integration) => Some(integration),
            Part::Start | Part::Phase(_) => None,
        }
    }
}

/// The steps of an orchestration, in order; its position is the place of each.
pub fn plan(run: &Orchestration) -> Vec<Planned> {
    let has = |words: [&str; 2]| run.integrations.iter().any(|word| words.contains(&word.as_str()));
    let (commits, deploys) = (has(["git", "github"]), has(["docker", "deployment"]));
    let operation = |step: String, integration| Planned::new(step, Part::Operation(integration));
    let mut plan = vec![Planned::new(START, Part::Start)];
    for phase in 0..run.phases.len() {
        plan.push(Planned::new(phase_step(phase), Part::Phase(phase)));
        if run.integration_enabled {
            plan.push(operation(format!("operation_{phase}_file"), Integration::File(phase)));
            if commits {
                plan.push(operation(format!("operation_{phase}_commit"), Integration::Commit(phase)));
            }
        }
    }
    if run.integration_enabled {
        let mut summaries: Vec<String> = Vec::new();
        for word in &run.integrations {
            let step = format!("operation_summary_{}", slug(word, "integration"));
            if !matches!(word.as_str(), "git" | "github" | "docker" | "deployment") && !summaries.contains(&step) {
                plan.push(operation(step.clone(), Integration::Summary(word.clone())));
                summaries.push(step);
            }
        }
        if deploys {
            plan.push(operation("operation_deployment".to_owned(), Integration::Deployment));
        }
    }
    plan
}

/// The step of a phase.
pub fn phase_step(phase: usize) -> String {
    format!("phase_{phase}")
}

/// The phase that a step belongs to: it is the phase itself, or one of its operations.
pub fn phase_of_step(step: &str) -> Option<usize> {
    let rest = step.strip_prefix("phase_").or_else(|| step.strip_prefix("operation_"))?;
    rest.split('_').next()?.parse().ok()
}

/// The code of a phase, as clients see it.
pub fn phase_code(phase: usize) -> String {
    format!("Phase {phase}")
}

/// What is given to the first step.
pub fn start_value(run: &Orchestration, project_name: &str, project_description: &str) -> (&'static str, Value) {
    let told = json!({
        "topic": run.topic,
        "project": { "name": project_name, "description": project_description },
        "phases": run.phases,
    });
    (START, json!({ "value": told }))
}

/// The pipeline that runs an orchestration. `room`: how many characters a phase may be shown of all earlier answers
/// together; longer ones are cut.
pub fn definition(run: &Orchestration, room: usize) -> Definition {
    let nodes: Vec<Node> = plan(run)
        .into_iter()
        .map(|Planned { step, part }| {
            let (kind, settings) = match part {
                Part::Start => {
                    let input = Input { input_type: InputType::Json, ..Input::default() };
                    (Kind::Input(input), Settings::default())
                }
                Part::Phase(phase) => {
                    (Kind::Llm(ask(run, phase, room)), Settings { retry: Some(PHASE_TRIES), ..Settings::default() })
                }
                Part::Operation(integration) => {
                    let settings = Settings {
                        timeout_seconds: Some(OPERATION_TIMEOUT),
                        retry: Some(OPERATION_TRIES),
                        on_error: OnError::Continue,
                    };
                    (Kind::Integration(integration), settings)
                }
            };
            Node { id: step, kind, settings }
        })
        .collect();
    let connections = nodes.windows(2).filter_map(|pair| match pair {
        [before, after] => Some(Connection {
            id: format!("{}-{}", before.id, after.id),
            source: before.id.clone(),
            target: after.id.clone(),
            source_handle: "output".to_owned(),
            target_handle: "input".to_owned(),
        }),
        _ => None,
    });
    Definition { connections: connections.collect(), nodes }
}

/// What the model is asked in a phase. Only numbers become part of the template: names, topics and answers come from the
/// outputs of earlier steps, and are never read as templates.
fn ask(run: &Orchestration, phase: usize, room: usize) -> Llm {
    let shown = (room / phase.max(1)).max(LEAST_SHOWN);
    let earlier: String = (0..phase)
        .map(|earlier| {
            format!(
                "## Phase {earlier}: {{{{ {START}.phases[{earlier}] }}}}\n\n{{{{ phase_{earlier}.text[:{shown}] }}}}\
                 {{% if phase_{earlier}.text|length > {shown} %}} […]{{% endif %}}\n\n"
            )
        })
        .collect();
    let prompt = format!(
        "Project: {{{{ {START}.project.name }}}}\n\
         {{% if {START}.project.description %}}Description: {{{{ {START}.project.description }}}}\n{{% endif %}}\
         Topic: {{{{ {START}.topic }}}}\n\
         Phases: {{{{ {START}.phases|join(\", \") }}}}\n\n\
         {earlier}\
         Current phase: Phase {phase}: {{{{ {START}.phases[{phase}] }}}}\n\
         Write the result of this phase."
    );
    Llm {
        model: Some(run.model.clone()),
        max_tokens: u32::try_from(run.max_tokens).ok(),
        temperature: Some(run.temperature),
        system_prompt: Some(SYSTEM.to_owned()),
        prompt: Some(prompt),
        ..Llm::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::OperationType;
    use chrono::Utc;
    use uuid::Uuid;

    pub(super) fn run(phases: &[&str], integration_enabled: bool, integrations: &[&str]) -> Orchestration {
        Orchestration {
            id: Uuid::nil(),
            organization_id: Uuid::nil(),
            user_id: Uuid::nil(),
            project_id: Uuid::nil(),
            template_id: None,
            topic: "Lamps".to_owned(),
            integration_enabled,
            phases: phases.iter().map(|phase| (*phase).to_owned()).collect(),
            integrations: integrations.iter().map(|word| (*word).to_owned()).collect(),
            model: "m".to_owned(),
            max_tokens: 100,
            temperature: 0.5,
            retry_of: None,
            completed_phases: 0,
            failed_phases: 0,
            tokens_used: 0,
            cost_nanos: 0,
            created_at: Utc::now(),
        }
    }

    fn steps(run: &Orchestration) -> Vec<String> {
        plan(run).into_iter().map(|planned| planned.step).collect()
    }

    #[test]
    fn without_integrations_there_are_phases_alone() {
        assert_eq!(steps(&run(&["A", "B"], false, &["git", "docker", "wiki"])), ["run", "phase_0", "phase_1"]);
    }

    #[test]
    fn what_a_phase_leaves_is_kept_before_the_next_one_begins() {
        let run = run(&["A", "B"], true, &["git", "github", "docker", "deployment", "wiki", "Wiki!"]);
        assert_eq!(
            steps(&run),
            [
                "run",
                "phase_0",
                "operation_0_file",
                "operation_0_commit",
                "phase_1",
                "operation_1_file",
                "operation_1_commit",
                "operation_summary_wiki",
                "operation_deployment",
            ]
        );
        let kinds: Vec<_> = plan(&run).iter().filter_map(|p| Some(p.operation()?.operation_type())).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == OperationType::FileSystem).count(), 3);
    }

    #[test]
    fn every_template_reads_and_every_step_waits_for_the_one_before() {
        let phases: Vec<String> = (0..MAX_PHASES).map(|n| format!("Phase {n}")).collect();
        let phases: Vec<&str> = phases.iter().map(String::as_str).collect();
        let run = run(&phases, true, &["git", "docker"]);
        let definition = definition(&run, 10_000);
        for node in &definition.nodes {
            if let Kind::Llm(llm) = &node.kind {
                let prompt = llm.prompt.as_deref().unwrap_or_default();
                assert_eq!(crate::pipeline::template::check(prompt), Ok(()), "{prompt}");
                assert!(!prompt.contains("Lamps"), "what clients say is no part of a template");
            }
        }
        assert_eq!(definition.connections.len(), definition.nodes.len() - 1);
        assert!(definition.connections.iter().zip(&definition.nodes).all(|(edge, node)| edge.source == node.id));
    }

    #[test]
    fn a_step_knows_its_phase() {
        for (step, phase) in [
            ("phase_12", Some(12)),
            ("operation_3_commit", Some(3)),
            ("operation_summary_wiki", None),
            ("operation_deployment", None),
            ("run", None),
        ] {
            assert_eq!(phase_of_step(step), phase, "{step}");
        }
    }
}
