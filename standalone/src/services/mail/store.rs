//! The mails that were received.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tokio::sync::watch;

/// Older mails are forgotten (and their files deleted) beyond this number.
const KEPT: usize = 1_000;
/// The envelope is kept in headers of these names in front of the mail itself.
const SENDER: &str = "X-Envelope-From: ";
const RECIPIENT: &str = "X-Envelope-To: ";

/// One received mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Counts from 1 in the order of arrival.
    pub number: u64,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body as they were sent, without the dots SMTP adds.
    pub data: String,
}

impl Mail {
    /// A header of the mail, empty if it has none of this name. Folded lines are joined.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let found = unfolded.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        });
        found.unwrap_or_default()
    }

    /// The subject as it was sent.
    #[must_use]
    pub fn subject(&self) -> String {
        self.header("Subject")
    }

    fn to_file(&self) -> String {
        let recipients: String = self.to.iter().map(|to| format!("{RECIPIENT}{to}\r\n")).collect();
        format!("{SENDER}{}\r\n{recipients}{}", self.from, self.data)
    }

    fn from_file(number: u64, text: &str) -> Self {
        let mut mail = Self { number, ..Self::default() };
        let mut rest = text;
        while let Some((line, after)) = rest.split_once("\r\n") {
            if let Some(from) = line.strip_prefix(SENDER) {
                from.clone_into(&mut mail.from);
            } else if let Some(to) = line.strip_prefix(RECIPIENT) {
                mail.to.push(to.to_owned());
            } else {
                break;
            }
            rest = after;
        }
        rest.clone_into(&mut mail.data);
        mail
    }
}

#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    mails: Mutex<VecDeque<Mail>>,
    newest: watch::Sender<u64>,
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

    fn file(&self, number: u64) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{number:06}.eml")))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Mail>> {
        // Nothing panics while it is held; and a list of mails is whole at any moment.
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
