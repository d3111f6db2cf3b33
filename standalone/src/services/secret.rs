//! Passwords and keys that are made once and kept in a file only its owner can read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;

/// Letters and digits only, so that it can stand in a URL or a configuration file without escaping.
#[must_use]
pub fn random() -> String {
    use rand::distr::{Alphanumeric, SampleString};
    const LENGTH: usize = 40;
    Alphanumeric.sample_string(&mut rand::rng(), LENGTH)
}

/// The secret kept in `file`; made at the first call.
///
/// # Errors
/// When the file can neither be read nor written.
pub fn kept(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    let secret = random();
    write(file, &secret)?;
    Ok(secret)
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let put = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(file)?.write_all(text.as_bytes())
    };
    put().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let first = kept(&file).unwrap();
        assert_eq!(first.len(), 40);
        assert_eq!(kept(&file).unwrap(), first);
        assert_ne!(random(), first);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
