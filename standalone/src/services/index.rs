//! Fetching one file from a Python package index (PEP 503, and PEP 691 where the index speaks it).

use std::{fs::File, io::Write, path::Path, thread, time::Duration};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use reqwest::{Client, Response, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::wheels::{Wheel, hex};
use crate::terminal::Terminal;

const ATTEMPTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// Fetches the wheel into `target` and returns the SHA-256 of what came. Shows a progress bar. Blocks.
///
/// # Errors
/// When the index cannot be reached or does not have the file, after some attempts.
pub fn fetch(wheel: &Wheel, index: &Url, target: &Path, terminal: &Terminal) -> anyhow::Result<String> {
    let label = format!("{} {}", wheel.name, wheel.version);
    if !terminal.shows_bars() {
        terminal.say(format_args!("  fetching {label} ({:.1} MB)", wheel.bytes as f64 / 1e6));
    }
    let bar = terminal.download_bar(&label, wheel.bytes);
    // A thread and a runtime of its own, so that it does not matter whether the caller is in one.
    let outcome = thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(fetch_patiently(wheel, index, target, &bar))
        });
        fetching.join().unwrap_or_else(|_| bail!("the download broke off"))
    });
    bar.finish_and_clear();
    outcome.with_context(|| format!("cannot fetch {label} from {}", without_password(index)))
}

async fn fetch_patiently(wheel: &Wheel, index: &Url, target: &Path, bar: &ProgressBar) -> anyhow::Result<String> {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        match fetch_once(wheel, index, target, bar).await {
            Ok(hash) => return Ok(hash),
            Err(error) if attempt == ATTEMPTS || !may_pass(&error) => return Err(error),
            Err(_) => tokio::time::sleep(pause).await,
        }
        attempt += 1;
        pause *= 2;
        bar.set_position(0);
    }
}

/// Whether another attempt may fare better: the network failed, or the index is in trouble.
fn may_pass(error: &anyhow::Error) -> bool {
    let of_network = error.chain().find_map(|cause| cause.downcast_ref::<reqwest::Error>());
    of_network.is_some_and(|error| error.status().is_none_or(|status| status.is_server_error()))
}

async fn fetch_once(wheel: &Wheel, index: &Url, target: &Path, bar: &ProgressBar) -> anyhow::Result<String> {
    // Whoever calls this before `main` has chosen a TLS provider gets ours; a second choice changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let address = find(&client, wheel, index).await?;
    let mut answer = client.get(address).send().await?.error_for_status()?;
    let mut file = File::create(target).with_context(|| format!("cannot write {}", target.display()))?;
    let mut hash = Sha256::new();
    while let Some(chunk) = answer.chunk().await? {
        hash.update(&chunk);
        file.write_all(&chunk)?;
        bar.inc(chunk.len() as u64);
    }
    Ok(hex(&hash.finalize()))
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<ListedFile>,
}

#[derive(Deserialize)]
struct ListedFile {
    filename: String,
    url: String,
}

/// The address of the wheel's file, from the index's page on its package.
async fn find(client: &Client, wheel: &Wheel, index: &Url) -> anyhow::Result<Url> {
    let page = index.join(&format!("{}/", wheel.name))?;
    let accept = format!("{JSON}, text/html;q=0.1");
    let answer = client.get(page).header(header::ACCEPT, accept).send().await?.error_for_status()?;
    let base = answer.url().clone();
    let found = if is_json(&answer) {
        let listing: Listing = serde_json::from_slice(&answer.bytes().await?)?;
        listing.files.into_iter().find(|file| file.filename == wheel.file).map(|file| file.url)
    } else {
        link_in(&answer.text().await?, &wheel.file)
    };
    let link = found.with_context(|| format!("the index does not have {}", wheel.file))?;
    Ok(base.join(&link)?)
}

fn is_json(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.contains("json"))
}

/// The target of the link to `file` in an older index's HTML page.
fn link_in(page: &str, file: &str) -> Option<String> {
    page.split("href=")
        .skip(1)
        .filter_map(|rest| {
            let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            rest[1..].split(quote).next()
        })
        .find(|link| link.split(['#', '?']).next().is_some_and(|path| path.rsplit('/').next() == Some(file)))
        .map(|link| link.replace("&amp;", "&"))
}

fn without_password(index: &Url) -> Url {
    let mut shown = index.clone();
    let _ = shown.set_password(None); // fails only for URLs that cannot have one
    shown
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn a_link_is_found_in_a_page_of_an_older_index() {
        let page =
            r#"<a href="../../packages/x-1.0-py3.whl#sha256=aa">x</a><a href='y/x-1.1-py3.whl?a=1&amp;b=2'>x</a>"#;
        assert_eq!(link_in(page, "x-1.0-py3.whl").unwrap(), "../../packages/x-1.0-py3.whl#sha256=aa");
        assert_eq!(link_in(page, "x-1.1-py3.whl").unwrap(), "y/x-1.1-py3.whl?a=1&b=2");
        assert_eq!(link_in(page, "x-2.0-py3.whl"), None);
    }

    #[test]
    fn a_password_in_the_index_url_is_not_shown() {
        let index = Url::parse("https://me:secret@mirror.example/simple/").unwrap();
        assert!(!without_password(&index).as_str().contains("secret"));
    }
}
