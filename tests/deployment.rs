//! The files an operator works with say the same as the code: .env.example, docker-compose.yml, Dockerfile, workers.toml.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use shared::kind::Kind;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use yaml_serde::Value;

/// Settings with names that others chose.
const FOREIGN: [&str; 5] = ["DATABASE_URL", "REDIS_URL", "ORT_DYLIB_PATH", "PIP_INDEX_URL", "MALLOC_TRIM_THRESHOLD_"];

/// The services that run our own programs.
const PROGRAMS: [&str; 4] = ["api", "worker", "scheduler", "prepare"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Names and values in .env.example; `true` if the line is live, `false` if it is a comment that shows a default.
fn example() -> BTreeMap<String, (String, bool)> {
    let text = read(".env.example");
    let mut settings = BTreeMap::new();
    let mut explained = false;
    for line in text.lines() {
        let (assignment, live) = line.strip_prefix("# ").map_or((line, true), |rest| (rest, false));
        match assignment.split_once('=') {
            Some((name, value)) if is_name(name) => {
                assert!(explained, "{name} has no explanation above it");
                let before = settings.insert(name.to_owned(), (value.to_owned(), live));
                assert!(before.is_none(), "{name} is there twice");
                explained = false;
            }
            _ => explained = !live && !line.starts_with("# ---"),
        }
    }
    settings
}

fn is_name(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The variables that `models/llm.toml` names: keys of providers, and where they are.
fn settings_of_models() -> BTreeSet<String> {
    let file: toml::Value = toml::from_str(&read("models/llm.toml")).unwrap();
    let providers = file["provider"].as_table().unwrap().values();
    let named = providers.flat_map(|provider| ["key_env", "base_url_env"].map(|entry| provider.get(entry)));
    named.flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Every setting that the programs read: string literals that are nothing but the name of one, and what the catalogue of
/// language models names.
fn settings_in_code() -> BTreeSet<String> {
    let mut folders: Vec<_> =
        ["shared", "api", "worker", "scheduler", "standalone"].iter().map(|c| root().join(c).join("src")).collect();
    let mut names = settings_of_models();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(path).unwrap();
                let literals = source.split('"').filter(|text| is_name(text));
                names.extend(literals.filter(|n| n.starts_with("ATELIER_") || FOREIGN.contains(n)).map(str::to_owned));
            }
        }
    }
    names
}

fn compose() -> Value {
    let mut file: Value = yaml_serde::from_str(&read("docker-compose.yml")).unwrap();
    file.apply_merge().unwrap();
    file
}

fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    let services = compose["services"].as_mapping().unwrap();
    services.iter().map(|(name, service)| (name.as_str().unwrap(), service)).collect()
}

fn environment(service: &Value) -> BTreeMap<&str, &str> {
    let Some(variables) = service.get("environment").and_then(Value::as_mapping) else { return BTreeMap::new() };
    variables.iter().map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap())).collect()
}

/// The names in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`.
fn interpolated(text: &str) -> BTreeSet<String> {
    text.split("${").skip(1).map(|rest| rest.chars().take_while(|c| is_name(&format!("_{c}"))).collect()).collect()
}

#[test]
fn the_example_of_settings_names_what_the_code_reads_and_nothing_else() {
    let code = settings_in_code();
    assert!(code.len() > 20, "only {code:?} were found in the sources");
    let example: BTreeSet<_> = example().into_keys().collect();
    let missing: Vec<_> = code.difference(&example).collect();
    assert!(missing.is_empty(), ".env.example does not explain {missing:?}");
    let known: BTreeSet<_> = code.union(&interpolated(&read("docker-compose.yml"))).cloned().collect();
    let stale: Vec<_> = example.difference(&known).collect();
    assert!(stale.is_empty(), ".env.example explains {stale:?}, which nobody reads");
}

#[test]
fn compose_takes_its_variables_from_the_example() {
    let known: BTreeSet<_> = example().into_keys().collect();
    let unknown: Vec<_> = interpolated(&read("docker-compose.yml")).difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "docker-compose.yml uses {unknown:?}, which .env.example does not explain");
    let compose = compose();
    for (name, service) in services(&compose).into_iter().filter(|(name, _)| PROGRAMS.contains(name)) {
        for variable in environment(service).into_keys() {
            assert!(known.contains(variable), "{name}: nobody reads {variable}");
        }
    }
}

#[test]
fn no_secret_has_a_working_default() {
    for (name, (value, live)) in example() {
        assert!(!live || value.is_empty(), ".env.example: a copy of it must not set {name} to anything");
    }
    let compose = compose();
    for (service, settings) in services(&compose) {
        for (name, value) in environment(settings) {
            let secret = ["PASSWORD", "SECRET", "_KEY", "AUTH", "DATABASE_URL", "REDIS_URL"];
            if settings_of_models().contains(name) {
                // may be missing: its provider is not used then
                assert_eq!(value, format!("${{{name}:-}}"), "{service}: {name} must come from outside or be empty");
            } else if secret.iter().any(|part| name.contains(part)) && !name.ends_with("_POLICY") {
                assert!(
                    value.contains(":?"),
                    "{service}: {name} must come from ${{…:?…}}, so that it is never guessed"
                );
            }
        }
    }
}

#[test]
fn api_and_worker_are_given_the_same_models() {
    let compose = compose();
    let wanted: BTreeSet<_> = settings_of_models().into_iter().chain(["ATELIER_LLM_FILE".to_owned()]).collect();
    assert!(wanted.contains("OPENAI_API_KEY"), "{wanted:?}");
    for name in ["api", "worker"] {
        let given: BTreeSet<_> = environment(services(&compose)[name]).into_keys().map(str::to_owned).collect();
        let missing: Vec<_> = wanted.difference(&given).collect();
        assert!(missing.is_empty(), "{name} is not given {missing:?}");
    }
}

#[test]
fn every_service_is_watched_and_pinned_and_kept_off_the_network() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let once = service["restart"] == "no";
        let check = service.get("healthcheck").map(|check| &check["test"]);
        assert!(once || check.is_some_and(Value::is_sequence), "{name} has no health check");
        let image = service["image"].as_str().unwrap();
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no tag"));
        assert_ne!(tag, "latest", "{name}: another image tomorrow");
        for port in service.get("ports").and_then(Value::as_sequence).into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} publishes {port:?} to the world");
        }
        for (needed, _) in service.get("depends_on").and_then(Value::as_mapping).into_iter().flatten() {
            assert!(
                services(&compose).contains_key(needed.as_str().unwrap()),
                "{name} needs {needed:?}, which is not there"
            );
        }
        for volume in service.get("volumes").and_then(Value::as_sequence).into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(compose["volumes"].get(source).is_some(), "{name}: the volume {source} is not declared");
        }
    }
    assert_eq!(services(&compose)["scheduler"]["deploy"]["replicas"], Value::from(2));
    for name in ["worker", "scheduler"] {
        let service = services(&compose)[name];
        assert!(
            service.get("container_name").is_none() && service.get("ports").is_none(),
            "{name} could not be scaled"
        );
    }
}

#[test]
fn redis_keeps_what_it_is_told() {
    let compose = compose();
    let command = format!("{:?}", services(&compose)["redis"]["command"]);
    for setting in ["--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"] {
        assert!(command.contains(setting), "{setting} is missing in {command}");
    }
}

#[test]
fn the_image_holds_the_programs_that_compose_runs() {
    let dockerfile = read("Dockerfile");
    let cargo: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    let rust = cargo["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "the image is not built with Rust {rust}");
    let users: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
    assert_eq!(users, ["atelier"], "the programs must not run as root");
    let compose = compose();
    for name in PROGRAMS {
        let program = services(&compose)[name]["command"][0].as_str().unwrap();
        assert!(dockerfile.contains(&format!("target/release/{program}")), "the image has no {program}");
    }
}

#[test]
fn every_queue_is_served_by_one_pool() {
    let file: toml::Value = toml::from_str(&read("workers.toml")).unwrap();
    let pools = file["pools"].as_table().unwrap();
    let mut served: Vec<_> = pools
        .values()
        .flat_map(|pool| pool["queues"].as_array().unwrap().iter().map(|queue| queue.as_str().unwrap()))
        .collect();
    served.sort_unstable();
    assert_eq!(served, Kind::queues());
}
