//! Loading ONNX Runtime.
//!
//! The library is loaded at run time, so the program builds without it and says clearly when it is missing. It knows one
//! environment a process; the one made first is kept for the life of the process and handed out again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use thiserror::Error;

/// Tried when no path is given: the system's loader searches its usual folders.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

/// The one environment of this process. ONNX Runtime refuses a second one, also after the first is gone.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// ONNX Runtime, loaded and ready to open models.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
}

/// Why ONNX Runtime is not there.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The library cannot be loaded or is too old.
    #[error(
        "ONNX Runtime could not be loaded from `{path}`: {source}. Start with `atelier up`, which fetches the right version, or \
         set ORT_DYLIB_PATH to a libonnxruntime.so of version 1.31 or newer (it lies in the PyPI wheel `onnxruntime`, folder \
         onnxruntime/capi)."
    )]
    Load {
        /// The path or library name tried.
        path: PathBuf,
        /// What the loader said.
        source: ort::LoadDynamicError,
    },
    /// The library is there and does not start.
    #[error("ONNX Runtime does not start: {0}")]
    Start(#[from] ort::Error),
}

impl Runtime {
    /// Loads ONNX Runtime from `dylib`, or by name from the system's library folders. The first successful call decides for
    /// the process; later ones return the same runtime.
    ///
    /// # Errors
    /// When the library is missing, too old or does not start. The text names the path tried and what to do.
    pub fn init(dylib: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut kept = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = kept.as_ref() {
            return Ok(Self { environment: environment.clone() });
        }
        let path = dylib.unwrap_or(Path::new(SYSTEM_LIBRARY));
        let builder = ort::init_from(path).map_err(|source| RuntimeError::Load { path: path.to_owned(), source })?;
        let environment = builder.with_name("atelier").with_telemetry(false).build()?;
        *kept = Some(environment.clone());
        Ok(Self { environment })
    }

    /// For opening a model that is not in the registry.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_that_says_where_it_looked_and_what_to_do() {
        let error =
            Runtime::init(Some(Path::new("/nowhere/libonnxruntime.so"))).map(|_| ()).map_err(|error| error.to_string());
        let text = error.err().unwrap_or_default();
        for part in ["/nowhere/libonnxruntime.so", "atelier up", "ORT_DYLIB_PATH"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
