//! What a command says at its end.

use std::{fmt::Display, process::ExitCode};

use comfy_table::{ColumnConstraint, Table};
use serde_json::Value;
use shared::models::Refused;
use uuid::Uuid;

use crate::terminal::{Terminal, table};

/// The outcome of a command, for programs and for people.
pub(super) struct Answer {
    json: Value,
    words: String,
    /// What people are told beside it, on standard error.
    remarks: Vec<String>,
    /// All that was asked for is done.
    complete: bool,
}

impl Answer {
    /// A list or a thing.
    pub(super) fn new(json: Value, words: impl Display) -> Self {
        Self { json, words: words.to_string(), remarks: Vec::new(), complete: true }
    }

    /// Something to know beside it.
    pub(super) fn with_remark(mut self, remark: Option<String>) -> Self {
        self.remarks.extend(remark);
        self
    }

    /// Things that were left as they are, with the reason.
    pub(super) fn with_refused(mut self, refused: &[(Uuid, Refused)]) -> Self {
        self.complete &= refused.is_empty();
        self.remarks.extend(refused.iter().map(|(id, reason)| format!("{id}: {reason}")));
        self
    }

    /// Says it; the exit status tells whether all is done.
    pub(super) fn show(self, terminal: &Terminal, json: bool) -> ExitCode {
        if json {
            terminal.say(format_args!("{:#}", self.json));
        } else if !self.words.is_empty() {
            terminal.say(&self.words);
        }
        for remark in &self.remarks {
            terminal.complain(remark);
        }
        if self.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A table with a head; or, instead of an empty one, these words.
pub(super) fn listed<const N: usize>(head: [&str; N], rows: Vec<[String; N]>, none: &str) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let mut table = table();
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    // what things are called by is not broken: it is there to be copied
    if let Some(name) = table.column_mut(0) {
        name.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.to_string()
}

/// A thing, a row for each of its properties.
pub(super) fn sheet(rows: Vec<(&str, String)>) -> Table {
    let mut table = table();
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table
}

/// Something that may be missing.
pub(super) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A time for people: to the second, in UTC.
pub(super) fn at(time: chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time that may be missing.
pub(super) fn maybe_at(time: Option<chrono::DateTime<chrono::Utc>>) -> String {
    or_dash(time.map(at))
}
