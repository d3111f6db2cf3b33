//! The model registry: which models there are, which are used, and how each wants its input and output treated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The registry's file name inside the models folder.
const FILE_NAME: &str = "models.toml";

/// The models in use, their files verified.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(super) classifier: Classifier,
    pub(super) detector: Detector,
}

/// How to run the classifier and read its answer.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    pub(super) id: String,
    pub(super) file: PathBuf,
    pub(super) input_side: u32,
    pub(super) crop: f64,
    pub(super) normalisation: Normalisation,
    /// Line = index of the output.
    pub(super) labels: Vec<String>,
    /// Product categories as sets of output indices.
    pub(super) categories: BTreeMap<String, Vec<usize>>,
}

/// How to run the defect detector and read its answer.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    pub(super) id: String,
    pub(super) file: PathBuf,
    pub(super) input_side: u32,
    pub(super) normalisation: Normalisation,
    pub(super) cell: u32,
    pub(super) types: Vec<String>,
    pub(super) threshold: f32,
    pub(super) min_cells: usize,
    pub(super) severity: SeverityRule,
}

/// A channel value `v` (0–255) goes into the model as `(v - mean) / scale`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normalisation {
    pub(super) mean: f32,
    pub(super) scale: f32,
}

/// Where severity changes; areas are shares of the picture.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeverityRule {
    pub(super) medium_area: f64,
    pub(super) high_area: f64,
    pub(super) sure: f64,
}

/// Why the registry cannot be used; each text names the file and what to do.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// A file of the registry is missing or unreadable.
    #[error(
        "cannot read `{path}`: {source}. Set ATELIER_MODELS_DIR to the folder that holds models.toml and its models."
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `models.toml` is not what it should be.
    #[error("`{path}` is not a valid model registry. {source}")]
    Registry {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: toml::de::Error,
    },
    /// A category file is not what it should be.
    #[error(
        "`{path}` is not a valid category file: {source}. Expected {{\"categories\": {{\"name\": [label line, …]}}}}."
    )]
    Categories {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// Something in `models.toml` or its companions contradicts something else.
    #[error("`{path}`: {problem}")]
    Contradiction {
        /// The file to mend.
        path: PathBuf,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// The model file is not the one described.
    #[error(
        "`{path}` has SHA-256 {found}, but models.toml says {expected}. Restore the file (it may be cut off, or a Git LFS \
         pointer), or write the new sum if you replaced the model on purpose."
    )]
    Checksum {
        /// The model file.
        path: PathBuf,
        /// Its sum, in hex.
        found: String,
        /// The sum in `models.toml`.
        expected: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryFile {
    active: Active,
    classifiers: BTreeMap<String, ClassifierEntry>,
    detectors: BTreeMap<String, DetectorEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Active {
    classifier: String,
    detector: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassifierEntry {
    version: String,
    file: PathBuf,
    sha256: String,
    input_side: u32,
    crop: f64,
    mean: f32,
    scale: f32,
    labels: PathBuf,
    categories: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DetectorEntry {
    version: String,
    file: PathBuf,
    sha256: String,
    input_side: u32,
    mean: f32,
    scale: f32,
    cell: u32,
    types: Vec<String>,
    threshold: f32,
    min_cells: usize,
    severity: SeverityRule,
}

/// The keys beside `categories` are notes for people.
#[derive(Deserialize)]
struct CategoryFile {
    categories: BTreeMap<String, Vec<usize>>,
}

impl Registry {
    /// Reads `models.toml` in `models_dir`, and verifies the files of the active models.
    ///
    /// # Errors
    /// When a file is missing, malformed, contradictory, or not the one its checksum says.
    pub fn load(models_dir: &Path) -> Result<Self, RegistryError> {
        let path = models_dir.join(FILE_NAME);
        let text = read_text(&path)?;
        let mut file: RegistryFile =
            toml::from_str(&text).map_err(|source| RegistryError::Registry { path: path.clone(), source })?;
        let RegistryFile { active, classifiers, detectors } = &mut file;
        let classifier = take_active(classifiers, &active.classifier, "classifier", &path)?;
        let detector = take_active(detectors, &active.detector, "detector", &path)?;
        Ok(Self {
            classifier: load_classifier(&active.classifier, classifier, models_dir, &path)?,
            detector: load_detector(&active.detector, detector, models_dir, &path)?,
        })
    }

    /// Names and versions of the models in use, as stored with each analysis.
    #[must_use]
    pub fn model_version(&self) -> String {
        format!("{}+{}", self.classifier.id, self.detector.id)
    }
}

fn take_active<E>(entries: &mut BTreeMap<String, E>, name: &str, task: &str, path: &Path) -> Result<E, RegistryError> {
    entries.remove(name).ok_or_else(|| {
        let known = entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        contradiction(
            path,
            format!("[active] {task} = \"{name}\", but there is no [{task}s.{name}]; there are: {known}"),
        )
    })
}

fn load_classifier(name: &str, entry: ClassifierEntry, dir: &Path, path: &Path) -> Result<Classifier, RegistryError> {
    let section = format!("[classifiers.{name}]");
    check(path, entry.input_side > 0, || format!("{section} input_side must be above 0"))?;
    check(path, entry.scale != 0.0, || format!("{section} scale must not be 0"))?;
    check(path, entry.crop > 0.0 && entry.crop <= 1.0, || format!("{section} crop must lie in 0-1, above 0"))?;
    let labels: Vec<String> = read_text(&dir.join(&entry.labels))?.lines().map(str::to_owned).collect();
    let categories_path = dir.join(&entry.categories);
    let categories = read_categories(&categories_path, labels.len())?;
    verify(&dir.join(&entry.file), &entry.sha256)?;
    Ok(Classifier {
        id: format!("{name}/{}", entry.version),
        file: dir.join(entry.file),
        input_side: entry.input_side,
        crop: entry.crop,
        normalisation: Normalisation { mean: entry.mean, scale: entry.scale },
        labels,
        categories,
    })
}

fn load_detector(name: &str, entry: DetectorEntry, dir: &Path, path: &Path) -> Result<Detector, RegistryError> {
    let section = format!("[detectors.{name}]");
    check(path, entry.input_side >= 32, || format!("{section} input_side must be at least 32"))?;
    check(path, entry.cell > 0, || format!("{section} cell must be above 0"))?;
    check(path, entry.scale != 0.0, || format!("{section} scale must not be 0"))?;
    check(path, !entry.types.is_empty(), || format!("{section} types must not be empty"))?;
    check(path, (0.0..1.0).contains(&entry.threshold), || format!("{section} threshold must lie in 0-1"))?;
    check(path, entry.severity.medium_area <= entry.severity.high_area, || {
        format!("{section} severity.medium_area must not be above severity.high_area")
    })?;
    verify(&dir.join(&entry.file), &entry.sha256)?;
    Ok(Detector {
        id: format!("{name}/{}", entry.version),
        file: dir.join(entry.file),
        input_side: entry.input_side,
        normalisation: Normalisation { mean: entry.mean, scale: entry.scale },
        cell: entry.cell,
        types: entry.types,
        threshold: entry.threshold,
        min_cells: entry.min_cells,
        severity: entry.severity,
    })
}

fn read_categories(path: &Path, labels: usize) -> Result<BTreeMap<String, Vec<usize>>, RegistryError> {
    let CategoryFile { categories } = serde_json::from_str(&read_text(path)?)
        .map_err(|source| RegistryError::Categories { path: path.to_owned(), source })?;
    check(path, categories.len() >= 2, || "at least two categories are needed".to_owned())?;
    let mut owner = vec![None; labels];
    for (name, lines) in &categories {
        for line in lines {
            let slot = owner.get_mut(*line).ok_or_else(|| {
                contradiction(
                    path,
                    format!("category \"{name}\" names line {line}, but there are only {labels} labels"),
                )
            })?;
            if let Some(other) = slot.replace(name) {
                return Err(contradiction(
                    path,
                    format!("line {line} is in \"{other}\" and in \"{name}\"; keep it in one"),
                ));
            }
        }
    }
    Ok(categories)
}

fn read_text(path: &Path) -> Result<String, RegistryError> {
    std::fs::read_to_string(path).map_err(|source| RegistryError::Read { path: path.to_owned(), source })
}

fn verify(path: &Path, expected: &str) -> Result<(), RegistryError> {
    let bytes = std::fs::read(path).map_err(|source| RegistryError::Read { path: path.to_owned(), source })?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(RegistryError::Checksum { path: path.to_owned(), found, expected: expected.to_owned() })
}

fn check(path: &Path, holds: bool, problem: impl FnOnce() -> String) -> Result<(), RegistryError> {
    if holds { Ok(()) } else { Err(contradiction(path, problem())) }
}

fn contradiction(path: &Path, problem: String) -> RegistryError {
    RegistryError::Contradiction { path: path.to_owned(), problem }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
