//! What this program takes from its surroundings, read once.

use std::{
    collections::BTreeSet,
    num::NonZeroU8,
    path::{Path, PathBuf},
};

use anyhow::Context;
use url::Url;

/// The Python package index asked when `PIP_INDEX_URL` names no other.
const DEFAULT_INDEX: &str = "https://pypi.org/simple/";

/// Settings of the machine that decide where programs come from.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The folders of `PATH`, in order.
    pub path: Vec<PathBuf>,
    /// `PIP_INDEX_URL`, the package index to fetch wheels from, with a slash at its end.
    pub package_index: Url,
    /// `ORT_DYLIB_PATH`, the ONNX Runtime library to use before all others.
    pub onnxruntime: Option<PathBuf>,
    /// `ATELIER_S3_ACCESS_KEY` and `ATELIER_S3_SECRET_KEY`, if both are set.
    pub s3_keys: Option<(String, String)>,
    /// `ATELIER_LOCAL_LLM_THREADS`, on how many threads the local language model thinks. More than one only helps while
    /// cores are idle: its threads wait for each other busily.
    pub local_llm_threads: NonZeroU8,
    /// The names of all variables that are set and not empty.
    pub names: BTreeSet<String>,
}

impl Surroundings {
    /// Reads the environment variables.
    ///
    /// # Errors
    /// When `PIP_INDEX_URL` is no URL or `ATELIER_LOCAL_LLM_THREADS` no number from 1 to 255.
    #[expect(clippy::disallowed_methods, reason = "these are the machine's variables, read here and nowhere else")]
    pub fn from_env() -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let names = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        Ok(Self {
            path: std::env::split_paths(&path).collect(),
            package_index: package_index(&text("PIP_INDEX_URL").unwrap_or_default())?,
            onnxruntime: text("ORT_DYLIB_PATH").map(PathBuf::from),
            s3_keys: text("ATELIER_S3_ACCESS_KEY").zip(text("ATELIER_S3_SECRET_KEY")),
            local_llm_threads: threads(text("ATELIER_LOCAL_LLM_THREADS").as_deref())?,
            names: names.filter_map(|(name, _)| name.into_string().ok()).collect(),
        })
    }

    /// Whether the person who started this program has set the variable.
    #[must_use]
    pub fn sets(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

fn package_index(setting: &str) -> anyhow::Result<Url> {
    let text = if setting.trim().is_empty() { DEFAULT_INDEX } else { setting.trim() };
    let with_slash = format!("{}/", text.trim_end_matches('/'));
    Url::parse(&with_slash).with_context(|| format!("PIP_INDEX_URL is no URL: {text:?}"))
}

fn threads(setting: Option<&str>) -> anyhow::Result<NonZeroU8> {
    setting.map_or(Ok(NonZeroU8::MIN), |text| {
        let number = text.trim().parse();
        number.with_context(|| format!("ATELIER_LOCAL_LLM_THREADS is no number from 1 to 255: {text:?}"))
    })
}

/// The root of Atelier's source tree, if the current folder is in it.
#[must_use]
pub fn source_tree() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find(|folder| folder.join("standalone/wheels.toml").is_file()).map(Path::to_path_buf)
}

/// The data folder used when none is given: `.atelier` in the source tree, else in the current folder.
#[must_use]
pub fn default_data() -> PathBuf {
    source_tree().unwrap_or_default().join(".atelier")
}

/// Where fetched programs are kept: shared by `cargo up` and `cargo test` in the source tree, else with the data.
#[must_use]
pub fn tools_folder(data: &Path) -> PathBuf {
    source_tree().map_or_else(|| data.to_owned(), |root| root.join(".atelier")).join("tools")
}

/// The folder with the models: that of the source tree, else `models` beside this program or above it.
///
/// # Errors
/// When there is none; the error says what to do.
pub fn models_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let mut candidates: Vec<_> = source_tree().into_iter().collect();
    candidates.extend(program.ancestors().skip(1).map(Path::to_path_buf));
    let found =
        candidates.into_iter().map(|folder| folder.join("models")).find(|folder| folder.join("models.toml").is_file());
    found.context(
        "the models are missing: start atelier in its source tree, put the folder `models` beside the program, \
         or set ATELIER_MODELS_DIR",
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn the_index_may_be_a_mirror_and_ends_with_a_slash() {
        assert_eq!(package_index("").unwrap().as_str(), DEFAULT_INDEX);
        assert_eq!(
            package_index("https://mirror.example/pypi/simple").unwrap().as_str(),
            "https://mirror.example/pypi/simple/"
        );
        assert!(package_index("not a url").is_err());
    }

    #[test]
    fn the_local_model_thinks_on_one_thread_unless_told_otherwise() {
        assert_eq!(threads(None).unwrap().get(), 1);
        assert_eq!(threads(Some("4")).unwrap().get(), 4);
        for wrong in ["0", "256", "many"] {
            assert!(threads(Some(wrong)).unwrap_err().to_string().contains("ATELIER_LOCAL_LLM_THREADS"));
        }
    }

    #[test]
    fn the_source_tree_is_found_from_inside() {
        assert!(source_tree().unwrap().join("Cargo.toml").is_file());
    }
}
