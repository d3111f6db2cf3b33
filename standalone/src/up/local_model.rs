//! The local language model of `atelier up`: started unless there is no need of it, and never a reason not to start.

use super::{Arguments, data::DataFolder};
use crate::{
    config::Surroundings,
    services::{LocalLlm, Toolbox},
    terminal::Terminal,
};

/// The variable that tells API and workers where a local model answers.
pub(super) const ADDRESS: &str = "ATELIER_LOCAL_LLM_URL";

/// Starts the model, unless the person who started this program does not want it or has one already. It loads while the
/// others start. Blocks until what is missing has been fetched.
pub(super) fn start(
    arguments: &Arguments,
    toolbox: &Toolbox,
    surroundings: &Surroundings,
    data: &DataFolder,
    terminal: &Terminal,
) -> Option<LocalLlm> {
    if arguments.no_local_model || surroundings.sets(ADDRESS) {
        return None;
    }
    let threads = surroundings.local_llm_threads;
    let started =
        toolbox.local_model().and_then(|model| LocalLlm::launch(model, threads, data.path(), data.ports().local_llm));
    match started {
        Ok(server) => {
            terminal.say(format_args!("  local model    {} (SmolLM2 135M, demo quality)", server.url()));
            Some(server)
        }
        Err(error) => {
            terminal.say(format_args!(
                "  local model    none: {error:#}\n                 Models answer only with a key (OPENAI_API_KEY, \
                 ANTHROPIC_API_KEY, …) or with a server of your own in {ADDRESS}."
            ));
            None
        }
    }
}
