//! The mails that were received.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tokio::sync::watch;

use super::received::Mail;

/// Older mails are forgotten (and their files deleted) beyond this number.
const KEPT: usize = 1_000;
#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    mails: Mutex<VecDeque<Mail>>,
    newest: watch::Sender<u64>,
    stalled: watch::Sender<bool>,
    put_off: Mutex<HashSet<String>>,
}

impl Store {
    pub(super) fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut mails = Vec::new();
        if let Some(folder) = folder {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            for entry in fs::read_dir(folder)?.flatten() {
                let path = entry.path();
                let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                if let (Some(number), Ok(bytes)) = (number, fs::read(&path)) {
                    mails.push(Mail::from_file(number, &String::from_utf8_lossy(&bytes)));
                }
            }
        }
        mails.sort_by_key(|mail| mail.number);
        let newest = mails.last().map_or(0, |mail| mail.number);
        Ok(Self {
            folder: folder.map(Path::to_path_buf),
            mails: Mutex::new(mails.into()),
            newest: watch::Sender::new(newest),
            stalled: watch::Sender::new(false),
            put_off: Mutex::default(),
        })
    }

    /// Keeps a mail; the error is for the client, which then tries again.
    pub(super) fn keep(&self, mut mail: Mail) -> std::io::Result<()> {
        let mut mails = self.lock();
        mail.number = mails.back().map_or(0, |last| last.number) + 1;
        let number = mail.number;
        if let Some(file) = self.file(number) {
            fs::write(file, mail.to_file())?;
        }
        mails.push_back(mail);
        if mails.len() > KEPT
            && let Some(file) = mails.pop_front().and_then(|oldest| self.file(oldest.number))
        {
            let _ = fs::remove_file(file); // one file too many does no harm
        }
        drop(mails);
        self.newest.send_replace(number);
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Mail> {
        self.lock().iter().cloned().collect()
    }

    pub(super) fn find(&self, number: u64) -> Option<Mail> {
        self.lock().iter().find(|mail| mail.number == number).cloned()
    }

    pub(super) async fn wait_for(&self, fits: impl Fn(&Mail) -> bool) -> Mail {
        let mut newest = self.newest.subscribe();
        loop {
            newest.mark_unchanged();
            if let Some(mail) = self.all().into_iter().find(&fits) {
                return mail;
            }
            // Ends with an error only when the sender is gone, which `self` holds.
            let _ = newest.changed().await;
        }
    }

    /// Whether a recipient is to come again later: the first time it is named.
    pub(super) fn puts_off(&self, recipient: &str) -> bool {
        // nothing panics while it is held
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).insert(recipient.to_owned())
    }

    /// Lets mails that were kept wait for their answer, or no longer.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    pub(super) async fn answers(&self) {
        let mut stalled = self.stalled.subscribe();
        // fails only when the sender is gone, which `self` holds
        let _ = stalled.wait_for(|stalled| !stalled).await;
    }

    fn file(&self, number: u64) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{number:06}.eml")))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Mail>> {
        // Nothing panics while it is held; and a list of mails is whole at any moment.
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
