//! Whose fault it is that a job failed. A request that failed through ours is not counted against the quota.

use crate::kind::Kind;

/// Who could have done better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The platform, or somebody it relies on.
    Ours,
    /// Whoever sent the request.
    Theirs,
}

/// Whether a job of this kind that failed with this code failed through our fault.
pub(super) fn is_ours(kind: Kind, code: &str) -> bool {
    match kind {
        // an answer is what was asked for: without one nothing was used
        Kind::ChatCompletion | Kind::TextGeneration => true,
        // what nobody has decided about is not held against them
        Kind::ImageAnalysis | Kind::PipelineRun | Kind::Orchestration => fault(code) != Some(Fault::Theirs),
        Kind::BatchShare | Kind::WebhookDelivery | Kind::Mail | Kind::Probe => false,
    }
}

/// Every code that an analysis or a run can fail with. A test compares it with the code of the workers.
fn fault(code: &str) -> Option<Fault> {
    Some(match code {
        // the process, its machine, its time
        "panic" | "timeout" | "worker_died" | "handed_back" | "waiting" => Fault::Ours,
        // what we keep, and where
        "database_error"
        | "database_unavailable"
        | "storage_unavailable"
        | "payload_unreadable"
        | "result_unwritable"
        | "answer_unwritable"
        | "output_lost"
        | "image_missing" => Fault::Ours,
        // what is done outside; it ends no job
        "integration_error" => Fault::Ours,
        // our own models
        "model_failed" | "models_not_loaded" => Fault::Ours,
        // providers
        "ai_service_error" | "llm_auth" | "llm_bad_response" | "llm_model_missing" | "llm_overloaded"
        | "llm_parked" | "llm_rate_limited" | "llm_server_error" | "llm_timeout" | "llm_truncated"
        | "llm_unreachable" => Fault::Ours,
        // the definition, its nodes, and what they were told
        "node_failed" | "node_timeout" | "pipeline_invalid" | "llm_bad_request" | "llm_model_unknown"
        | "llm_not_served" => Fault::Theirs,
        // what the user or the organization has allowed
        "budget_exceeded" | "quota_exceeded" => Fault::Theirs,
        // the images, which have been looked at for what they are
        "image_damaged"
        | "image_empty"
        | "image_failed"
        | "image_file_too_large"
        | "image_format_unsupported"
        | "image_too_large"
        | "image_too_small"
        | "image_truncated"
        | "images_deleted" => Fault::Theirs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    /// What comes right before the code of a failure in the sources.
    const MARKS: [&str; 4] = ["code:", "retry(", "flaw(", "for_good("];

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// Words in quotes that look like the code of a failure: after a mark, or with the beginning that a family has.
    fn codes(source: &str) -> BTreeSet<String> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let parts: Vec<&str> = code.split('"').collect();
        let words = parts.iter().enumerate().skip(1).step_by(2);
        words
            .filter(|(at, word)| {
                let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                let marked = MARKS.iter().any(|mark| parts[at - 1].trim_end().ends_with(mark));
                let family = ["llm_", "image_", "images_"].iter().any(|family| word.starts_with(family));
                plain && (marked || family)
            })
            .map(|(_, word)| (*word).to_owned())
            .collect()
    }

    #[test]
    fn every_code_of_the_workers_has_been_decided_about() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        sources(&root.join("worker/src/jobs"), &mut files);
        // nobody asks for these through a metered request
        files.retain(|file| !file.ends_with("jobs/mail.rs") && !file.ends_with("jobs/webhook_delivery.rs"));
        sources(&root.join("worker/src/nodes"), &mut files);
        sources(&root.join("worker/src/llm"), &mut files);
        files
            .extend(["worker/src/execute.rs", "worker/src/outcome.rs", "worker/src/reporter.rs"].map(|f| root.join(f)));
        files.push(root.join("worker/src/vision/error.rs"));
        files.push(root.join("shared/src/models/job_upkeep.rs"));
        let found: BTreeSet<String> = files.iter().flat_map(|file| codes(&fs::read_to_string(file).unwrap())).collect();
        for known in ["worker_died", "image_too_large", "llm_timeout", "node_failed", "storage_unavailable"] {
            assert!(found.contains(known), "the search for codes misses {known}: {found:?}");
        }
        let undecided: Vec<_> = found.iter().filter(|code| fault(code).is_none()).collect();
        assert!(undecided.is_empty(), "whose fault is {undecided:?}?");
    }

    #[test]
    fn what_we_or_our_providers_broke_is_taken_back() {
        for code in
            ["worker_died", "panic", "timeout", "storage_unavailable", "model_failed", "ai_service_error", "new"]
        {
            assert!(is_ours(Kind::PipelineRun, code) && is_ours(Kind::ImageAnalysis, code), "{code}");
        }
        for code in ["node_failed", "node_timeout", "budget_exceeded", "image_damaged", "pipeline_invalid"] {
            assert!(!is_ours(Kind::PipelineRun, code) && !is_ours(Kind::ImageAnalysis, code), "{code}");
        }
    }

    #[test]
    fn a_question_without_an_answer_is_never_counted() {
        for code in ["llm_bad_request", "budget_exceeded", "llm_timeout"] {
            assert!(is_ours(Kind::ChatCompletion, code) && is_ours(Kind::TextGeneration, code), "{code}");
        }
    }
}
