//! The data folder: what is kept between starts.
//!
//! `lock` (one `atelier up` a folder), `ports.json` (tried again at the next start, so that URLs stay), `secrets/`,
//! `logs/`, `environment` (what the programs were started with), and a folder for each server's data.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::services::secret;

/// Name of the file with the settings of the programs.
const ENVIRONMENT: &str = "environment";

/// The ports of the last start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ports {
    pub(super) postgres: Option<u16>,
    pub(super) redis: Option<u16>,
    pub(super) s3: Option<u16>,
    pub(super) smtp: Option<u16>,
    pub(super) mail_page: Option<u16>,
    pub(super) local_llm: Option<u16>,
}

/// A data folder, held by this process.
#[derive(Clone, Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataFolder {
    /// Makes the folder if need be and takes it; another `atelier up` may not use it meanwhile.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let make = || -> std::io::Result<(PathBuf, File)> {
            fs::create_dir_all(path.join("secrets"))?;
            fs::create_dir_all(path.join("logs"))?;
            let path = path.canonicalize()?;
            let lock = File::create(path.join("lock"))?;
            Ok((path, lock))
        };
        let (path, lock) = make().with_context(|| format!("cannot use the data folder {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => {
                bail!("another `atelier up` is using {}; stop it or give another folder with --data", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// A secret of this installation, made at the first start.
    pub(super) fn secret(&self, name: &str) -> anyhow::Result<String> {
        secret::kept(&self.path.join("secrets").join(name))
    }

    /// The ports of the last start; none if there was none or the note is unreadable.
    pub(super) fn ports(&self) -> Ports {
        let note = fs::read(self.path.join("ports.json")).unwrap_or_default();
        serde_json::from_slice(&note).unwrap_or_default()
    }

    /// The major versions of PostgreSQL that have left data here, in order.
    pub(super) fn postgres_versions(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut found: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("pg")?.parse().ok()).collect();
        found.sort_unstable();
        found
    }

    pub(super) fn remember_ports(&self, ports: Ports) -> anyhow::Result<()> {
        let note = serde_json::to_vec_pretty(&ports)?;
        fs::write(self.path.join("ports.json"), note).context("cannot write ports.json")
    }

    /// Writes the programs' settings, so that a shell can be given the same: `set -a; . DIR/environment`.
    pub(super) fn write_environment(&self, environment: &[(String, String)]) -> anyhow::Result<()> {
        let quoted = |value: &str| format!("'{}'", value.replace('\'', r"'\''"));
        let lines: String = environment.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
        secret::write(&self.environment_file(), &lines)
    }

    pub(super) fn environment_file(&self) -> PathBuf {
        self.path.join(ENVIRONMENT)
    }
}

/// What the programs of the `atelier up` with its data in `folder` were last started with. `None`: there never was one.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn environment_of(folder: &Path) -> anyhow::Result<Option<Vec<(String, String)>>> {
    let file = folder.join(ENVIRONMENT);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let read = |line: &str| {
        let (name, quoted) = line.split_once('=')?;
        let value = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
        Some((name.to_owned(), value.replace(r"'\''", "'")))
    };
    Ok(Some(text.lines().filter_map(read).collect()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn a_folder_serves_one_at_a_time_and_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--data"), "{error}");
        assert_eq!(data.ports(), Ports::default());
        // a note of an older version, which knew fewer servers
        fs::write(folder.path().join("ports.json"), r#"{"postgres": 5432}"#).unwrap();
        assert_eq!(data.ports(), Ports { postgres: Some(5432), ..Ports::default() });
        let ports = Ports { s3: Some(9000), ..Ports::default() };
        data.remember_ports(ports).unwrap();
        let secret = data.secret("one").unwrap();
        for name in ["pg18", "pg15", "pg15.password", "pgx"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(data.postgres_versions(), [15, 18]);
        let file = data.environment_file();
        data.write_environment(&[("NAME".to_owned(), "it's".to_owned())]).unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "NAME='it'\\''s'\n");
        assert_eq!(environment_of(folder.path()).unwrap(), Some(vec![("NAME".to_owned(), "it's".to_owned())]));
        assert_eq!(environment_of(&folder.path().join("elsewhere")).unwrap(), None);
        drop(data);
        let data = DataFolder::open(folder.path()).unwrap();
        assert_eq!(data.ports(), ports);
        assert_eq!(data.secret("one").unwrap(), secret);
    }
}
