//! What may depend on what. The crates meet in rows, messages and channels; a dependency that is not in the tables
//! below would let one of them know too much.
#![expect(clippy::expect_used, reason = "a test may stop at a broken assumption")]

use cargo_metadata::{Metadata, MetadataCommand, Package};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Which of our crates each of our crates may name.
const ARROWS: [(&str, &[&str]); 7] = [
    ("shared", &[]),
    ("guard", &[]),
    ("api", &["shared"]),
    ("worker", &["shared"]),
    ("scheduler", &["shared"]),
    ("standalone", &["api", "guard", "scheduler", "shared", "worker"]),
    ("tests", &["api", "guard", "scheduler", "shared", "standalone", "worker"]),
];

/// Crates of others that belong into some of ours and no others. A name ending in `*` stands for a family.
const HOMES: [(&str, &[&str]); 18] = [
    ("actix-*", &["api", "tests"]),
    ("utoipa*", &["api"]),
    ("jsonwebtoken", &["api"]),
    ("argon2", &["api"]),
    ("ort", &["worker"]),
    ("image", &["worker"]),
    ("fast_image_resize", &["worker"]),
    ("apalis*", &["shared", "tests", "worker"]),
    ("aws-*", &["shared"]),
    ("diesel_migrations", &["shared", "tests"]),
    ("s3s*", &["standalone"]),
    ("libc", &["guard"]),
    ("genai", &["worker"]),
    ("croner", &["shared"]),
    ("chrono-tz", &["shared"]),
    ("schemars", &["shared"]),
    ("minijinja", &["shared", "worker"]),
    ("jsonpath-rust", &["shared", "worker"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes the workspace")
}

fn ours(metadata: &Metadata) -> BTreeMap<String, &Package> {
    metadata.workspace_packages().into_iter().map(|package| (package.name.to_string(), package)).collect()
}

/// Dependencies of every kind, those of tests and builds included: tests must not tie crates together either.
fn dependencies(package: &Package) -> BTreeSet<String> {
    package.dependencies.iter().map(|dependency| dependency.name.clone()).collect()
}

#[test]
fn our_crates_name_only_those_below_them() {
    let metadata = metadata();
    let ours = ours(&metadata);
    let listed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    assert_eq!(
        ours.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        listed.keys().copied().collect::<BTreeSet<_>>(),
        "a crate was added or removed: say in ARROWS what it may name"
    );
    for (name, package) in &ours {
        for dependency in dependencies(package).intersection(&ours.keys().cloned().collect()) {
            assert!(listed[name.as_str()].contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn heavy_crates_stay_at_home() {
    let metadata = metadata();
    for (name, package) in ours(&metadata) {
        for dependency in dependencies(package) {
            for (pattern, homes) in HOMES {
                let belongs = match pattern.strip_suffix('*') {
                    Some(family) => dependency.starts_with(family),
                    None => dependency == pattern,
                };
                assert!(
                    !belongs || homes.contains(&name.as_str()),
                    "{dependency} belongs into {}, not into {name}",
                    homes.join(" or ")
                );
            }
        }
    }
}

#[test]
fn versions_are_chosen_in_one_place() {
    let metadata = metadata();
    for (name, package) in ours(&metadata) {
        let manifest = read_toml(package.manifest_path.as_std_path());
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten() {
                assert_eq!(
                    value.get("workspace").and_then(toml::Value::as_bool),
                    Some(true),
                    "{name}: give {dependency} a version in the workspace's Cargo.toml, and `.workspace = true` here"
                );
            }
        }
    }
}

#[test]
fn only_guard_may_be_unsafe() {
    let metadata = metadata();
    let root = read_toml(metadata.workspace_root.join("Cargo.toml").as_std_path());
    assert_eq!(root["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for (name, package) in ours(&metadata) {
        let manifest = read_toml(package.manifest_path.as_std_path());
        let inherits = manifest["lints"].get("workspace").and_then(toml::Value::as_bool) == Some(true);
        assert_eq!(inherits, name != "guard", "{name}: only guard has lints of its own");
    }
    let guard = read_toml(&metadata.workspace_root.as_std_path().join("guard/Cargo.toml"));
    let (mut theirs, mut workspace) = (guard["lints"].clone(), root["workspace"]["lints"].clone());
    for lints in [&mut theirs, &mut workspace] {
        lints["rust"].as_table_mut().expect("a table of lints").remove("unsafe_code");
    }
    for (group, lints) in workspace.as_table().expect("groups of lints") {
        for (lint, level) in lints.as_table().expect("a table of lints") {
            assert_eq!(theirs[group].get(lint), Some(level), "guard must keep the workspace's {group} lint {lint}");
        }
    }
}

fn read_toml(path: &Path) -> toml::Value {
    let text = fs::read_to_string(path).expect("a manifest can be read");
    toml::from_str(&text).expect("a manifest is TOML")
}
