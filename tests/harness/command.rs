//! Commands of the program under test that end by themselves.

use crate::World;
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
};
use tokio::task::spawn_blocking;

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; -1 if a signal ended it.
    pub status: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl World {
    /// Runs `atelier <arguments>` in this world to its end.
    pub async fn command(&self, arguments: &[&str]) -> Ran {
        self.command_with(arguments, &[], "").await
    }

    /// Runs `atelier <arguments>` with changed settings and something on its standard input.
    pub async fn command_with(&self, arguments: &[&str], changes: &[(&str, &str)], input: &str) -> Ran {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (settings, input) = (self.settings(changes), input.to_owned());
        spawn_blocking(move || run(&arguments, settings, &input)).await.unwrap()
    }

    /// Runs `atelier admin --json <arguments>`, which is to do all that is asked for; what it says.
    pub async fn admin(&self, arguments: &[&str]) -> Value {
        self.admin_ran(arguments).await.json()
    }

    /// Runs `atelier admin --json <arguments>`.
    pub async fn admin_ran(&self, arguments: &[&str]) -> Ran {
        let whole: Vec<&str> = ["admin", "--json"].iter().chain(arguments).copied().collect();
        self.command(&whole).await
    }
}

#[expect(clippy::disallowed_methods, reason = "PATH is passed on, not read")]
fn run(arguments: &[String], settings: Vec<(String, String)>, input: &str) -> Ran {
    let mut child = Command::new(crate::binary())
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(settings)
        .current_dir(crate::project_root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // it may end without having read it
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    /// What it says to programs, if it has done all that was asked for.
    pub fn json(self) -> Value {
        self.json_with(0)
    }

    /// What it says to programs, if its exit status is the expected one.
    pub fn json_with(self, status: i32) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// It has done all that was asked for.
    pub fn complete(self) {
        assert_eq!(self.status, 0, "{self:?}");
    }

    /// What it complains about, having failed.
    pub fn complaint(self) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (1, ""), "{}", self.stderr);
        self.stderr
    }
}
