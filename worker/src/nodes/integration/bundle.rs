//! Git bundles: a repository in one file, which `git clone` reads. Version 2 of the format: a line that says so, a line for
//! each reference, an empty one, and a pack.

use chrono::{DateTime, Utc};
use git2::{Buf, Commit, Oid, Repository, RepositoryInitOptions, Signature, Time, message_trailers_strs};
use std::io::{self, Write};
use uuid::Uuid;

/// The branch with the commits.
pub(super) const BRANCH: &str = "main";

const REFERENCE: &str = "refs/heads/main";
const FIRST_LINE: &str = "# v2 git bundle";
const AUTHOR: &str = "Atelier";
const EMAIL: &str = "noreply@atelier.example";

/// Of a file that can be read and is no program.
const PLAIN_FILE: i32 = 0o100_644;

/// One file to be committed.
pub(super) struct Change {
    /// The first line of the message.
    pub(super) subject: String,
    /// Whose commit it is; noted in the message.
    pub(super) run: Uuid,
    /// The same.
    pub(super) phase: usize,
    pub(super) filename: String,
    pub(super) text: String,
    /// The same in every attempt, so that they make the same commit.
    pub(super) at: DateTime<Utc>,
}

/// What became of a change.
pub(super) struct Committed {
    /// Its commit.
    pub(super) commit: String,
    /// The repository with it. `None`: it had it already.
    pub(super) bundle: Option<Vec<u8>>,
}

/// Why there is no commit.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    /// The object in the store is something else.
    #[error("the repository cannot be read: {0}")]
    Unreadable(&'static str),
    /// The library says so.
    #[error("{}", .0.message())]
    Git(#[from] git2::Error),
    /// No room for the temporary folder.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl BundleError {
    /// Whether it may work later.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Disk(_))
    }
}

/// Adds a commit to a repository, or makes one. Everything happens in a folder of its own, which is gone afterwards.
pub(super) fn commit(earlier: Option<&[u8]>, change: &Change) -> Result<Committed, BundleError> {
    let folder = tempfile::tempdir()?;
    let mut options = RepositoryInitOptions::new();
    // nothing of what this host has set up for its users counts here
    options.bare(true).external_template(false).no_reinit(true).initial_head(BRANCH);
    let repository = Repository::init_opts(folder.path(), &options)?;
    let parent = match earlier {
        Some(bundle) => Some(unpack(&repository, bundle)?),
        None => None,
    };
    if let Some(parent) = &parent
        && let Some(there) = find(&repository, parent, change)?
    {
        return Ok(Committed { commit: there.to_string(), bundle: None });
    }
    let new = add(&repository, parent.as_ref(), change)?;
    Ok(Committed { commit: new.to_string(), bundle: Some(pack(&repository, new)?) })
}

/// Puts the objects of a bundle into an empty repository, and returns the newest commit of the branch.
fn unpack<'r>(repository: &'r Repository, bundle: &[u8]) -> Result<Commit<'r>, BundleError> {
    let (head, pack) = read_header(bundle)?;
    let odb = repository.odb()?;
    let mut writer = odb.packwriter()?;
    writer.write_all(pack).map_err(|_| BundleError::Unreadable("its pack is broken"))?;
    writer.commit()?;
    drop(writer);
    odb.refresh()?;
    repository.reference(REFERENCE, head, true, "from a bundle")?;
    Ok(repository.find_commit(head)?)
}

/// The newest commit of the branch, and the pack.
fn read_header(bundle: &[u8]) -> Result<(Oid, &[u8]), BundleError> {
    let (mut head, mut rest) = (None, bundle);
    let mut is_first = true;
    loop {
        let end =
            rest.iter().position(|byte| *byte == b'\n').ok_or(BundleError::Unreadable("its header has no end"))?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| BundleError::Unreadable("its header is no text"))?;
        rest = &rest[end + 1..];
        if is_first {
            if line != FIRST_LINE {
                return Err(BundleError::Unreadable("it is no bundle of version 2"));
            }
            is_first = false;
        } else if line.is_empty() {
            break;
        } else if let Some((id, REFERENCE)) = line.split_once(' ') {
            head = Some(Oid::from_str(id)?);
        }
    }
    Ok((head.ok_or(BundleError::Unreadable("it has no branch main"))?, rest))
}

/// The commit that an earlier attempt has made of the same change.
fn find(repository: &Repository, newest: &Commit<'_>, change: &Change) -> Result<Option<Oid>, BundleError> {
    let mut walk = repository.revwalk()?;
    walk.push(newest.id())?;
    for id in walk {
        let id = id?;
        let commit = repository.find_commit(id)?;
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        let trailers = message_trailers_strs(&message)?;
        let has = |key: &str, value: &str| trailers.iter().any(|trailer| trailer == (key, value));
        if has("Run", &change.run.to_string()) && has("Phase", &change.phase.to_string()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn add(repository: &Repository, parent: Option<&Commit<'_>>, change: &Change) -> Result<Oid, BundleError> {
    let tree = parent.map(Commit::tree).transpose()?;
    let mut builder = repository.treebuilder(tree.as_ref())?;
    builder.insert(&change.filename, repository.blob(change.text.as_bytes())?, PLAIN_FILE)?;
    let tree = repository.find_tree(builder.write()?)?;
    let author = Signature::new(AUTHOR, EMAIL, &Time::new(change.at.timestamp(), 0))?;
    let message = format!("{}\n\nRun: {}\nPhase: {}\n", change.subject, change.run, change.phase);
    let parents: Vec<&Commit<'_>> = parent.into_iter().collect();
    Ok(repository.commit(Some(REFERENCE), &author, &author, &message, &tree, &parents)?)
}

/// The whole history of a commit as a bundle.
fn pack(repository: &Repository, head: Oid) -> Result<Vec<u8>, BundleError> {
    let mut walk = repository.revwalk()?;
    walk.push(head)?;
    let mut builder = repository.packbuilder()?;
    builder.set_threads(1);
    builder.insert_walk(&mut walk)?;
    let mut packed = Buf::new();
    builder.write_buf(&mut packed)?;
    // `HEAD` tells `git clone` what to check out
    let mut bundle = format!("{FIRST_LINE}\n{head} {REFERENCE}\n{head} HEAD\n\n").into_bytes();
    bundle.extend_from_slice(&packed);
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn change(run: Uuid, phase: usize, text: &str) -> Change {
        Change {
            subject: format!("Phase {phase}: Ideation"),
            run,
            phase,
            filename: format!("{phase:02}-ideation.md"),
            text: text.to_owned(),
            at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }

    #[test]
    fn a_change_is_committed_once_and_always_as_the_same_commit() {
        let run = Uuid::now_v7();
        let first = commit(None, &change(run, 0, "a")).unwrap();
        assert_eq!(commit(None, &change(run, 0, "a")).unwrap().commit, first.commit);
        let bundle = first.bundle.unwrap();
        let again = commit(Some(&bundle), &change(run, 0, "a")).unwrap();
        assert_eq!((again.commit, again.bundle), (first.commit.clone(), None));
        let second = commit(Some(&bundle), &change(run, 1, "b")).unwrap();
        assert_ne!(second.commit, first.commit);
        let third = commit(second.bundle.as_deref(), &change(Uuid::now_v7(), 0, "c")).unwrap();
        let again = commit(third.bundle.as_deref(), &change(run, 0, "a")).unwrap();
        assert_eq!(again.commit, first.commit, "it is found behind others");
    }

    #[test]
    fn what_is_no_bundle_is_refused_and_nothing_breaks() {
        let good = commit(None, &change(Uuid::nil(), 0, "a")).unwrap().bundle.unwrap();
        let bad: [&[u8]; 7] = [
            b"",
            b"# v2 git bundle\n",
            b"# v3 git bundle\n\n",
            b"# v2 git bundle\n\nPACK",
            b"# v2 git bundle\nxyz refs/heads/main\n\n",
            b"\xff\xfe\n\n",
            &good[..good.len() - 30],
        ];
        for bundle in bad {
            assert!(commit(Some(bundle), &change(Uuid::nil(), 1, "b")).is_err(), "{:?}", bundle.get(..20));
        }
    }
}
