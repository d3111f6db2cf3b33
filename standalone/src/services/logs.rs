//! The log files of child processes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A log that has grown beyond this is put aside as `<name>.log.1`.
const MAX_BYTES: u64 = 32 << 20;

/// The path of a child's log below the data folder.
#[must_use]
pub fn path(data: &Path, name: &str) -> PathBuf {
    data.join("logs").join(format!("{name}.log"))
}

/// Opens a child's log to append to it.
///
/// # Errors
/// When folder or file cannot be made.
pub fn open(data: &Path, name: &str) -> anyhow::Result<File> {
    let file = path(data, name);
    let open = || -> io::Result<File> {
        fs::create_dir_all(data.join("logs"))?;
        if file.metadata().is_ok_and(|found| found.len() > MAX_BYTES) {
            fs::rename(&file, file.with_extension("log.1"))?;
        }
        OpenOptions::new().append(true).create(true).open(&file)
    };
    open().with_context(|| format!("cannot write the log {}", file.display()))
}

/// Puts the contents of logs that have grown too long aside. Their writers append, so they go on at the new end.
///
/// # Errors
/// When the folder or a file in it cannot be read or written.
pub fn shorten(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        let is_log = file.extension().is_some_and(|extension| extension == "log");
        if is_log && file.metadata()?.len() > MAX_BYTES {
            fs::copy(&file, file.with_extension("log.1"))?;
            OpenOptions::new().write(true).open(&file)?.set_len(0)?;
        }
    }
    Ok(())
}

/// What was written to a log after `start` bytes, at most its last 2,000 characters; empty if it cannot be read.
#[must_use]
pub fn since(file: &Path, start: u64) -> String {
    const LAST: u64 = 2_000;
    let read = || -> io::Result<Vec<u8>> {
        let mut log = File::open(file)?;
        let end = log.metadata()?.len();
        log.seek(SeekFrom::Start(start.min(end).max(end.saturating_sub(LAST))))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The present length of a log, 0 if there is none.
#[must_use]
pub fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_put_aside_under_its_writer() {
        let data = tempfile::tempdir().unwrap();
        let mut log = open(data.path(), "server").unwrap();
        log.set_len(MAX_BYTES + 1).unwrap();
        open(data.path(), "other").unwrap().write_all(b"short\n").unwrap();
        shorten(&data.path().join("logs")).unwrap();
        log.write_all(b"new\n").unwrap();
        assert_eq!(length(&path(data.path(), "server")), 4);
        assert_eq!(length(&path(data.path(), "server").with_extension("log.1")), MAX_BYTES + 1);
        assert_eq!(length(&path(data.path(), "other")), 6);
    }

    #[test]
    fn only_what_was_written_after_the_start_is_shown() {
        let data = tempfile::tempdir().unwrap();
        let file = path(data.path(), "server");
        open(data.path(), "server").unwrap().write_all(b"old\n").unwrap();
        let start = length(&file);
        open(data.path(), "server").unwrap().write_all(b"new\n").unwrap();
        assert_eq!(since(&file, start), "new");
        assert_eq!(since(Path::new("/no/such/file"), 0), "");
    }
}
