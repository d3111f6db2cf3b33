//! All that is written to the terminal goes through here, so that lines and progress bars do not tear each other apart.
//!
//! Lines go to standard output; bars go to standard error and only if that is a terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The terminal, or silence.
#[derive(Clone, Debug)]
pub struct Terminal {
    bars: MultiProgress,
    speaks: bool,
}

impl Terminal {
    /// The terminal this program was started in.
    #[must_use]
    pub fn standard() -> Self {
        Self { bars: MultiProgress::new(), speaks: true }
    }

    /// Shows nothing; for tests.
    #[must_use]
    pub fn quiet() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), speaks: false }
    }

    /// Whether bars can be seen. Where they cannot, say in a line what goes on.
    #[must_use]
    pub fn shows_bars(&self) -> bool {
        self.speaks && io::stderr().is_terminal()
    }

    /// Writes a line above the bars. A closed terminal is no reason to stop serving, so errors are ignored.
    pub fn say(&self, line: impl Display) {
        if self.speaks {
            self.bars.suspend(|| {
                let _ = writeln!(io::stdout(), "{line}");
            });
        }
    }

    /// Writes a piece of a line, which can be seen at once. Call it only while no bar is shown.
    pub fn write(&self, piece: impl Display) {
        if self.speaks {
            let mut out = io::stdout();
            let _ = write!(out, "{piece}").and_then(|()| out.flush());
        }
    }

    /// Writes a line to standard error, above the bars.
    pub fn complain(&self, line: impl Display) {
        if self.speaks {
            self.bars.suspend(|| {
                let _ = writeln!(io::stderr(), "{line}");
            });
        }
    }

    /// A bar that counts bytes.
    #[must_use]
    pub fn download_bar(&self, name: &str, bytes: u64) -> ProgressBar {
        let look = "  {prefix:<26} [{bar:30}] {bytes:>10} of {total_bytes:<10} {bytes_per_sec:>12}";
        self.bar(name, bytes, look)
    }

    /// A bar that counts steps and says what is being done.
    #[must_use]
    pub fn step_bar(&self, name: &str, steps: u64) -> ProgressBar {
        let bar = self.bar(name, steps, "  {prefix} [{bar:30}] {pos}/{len} {msg}");
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn bar(&self, name: &str, length: u64, look: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(look).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(length));
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        bar
    }
}

/// An empty table, to be filled and said; as wide as the terminal.
#[must_use]
pub fn table() -> Table {
    const NARROWEST: u16 = 60;
    const WIDEST: u16 = 120;
    let mut table = Table::new();
    // Some terminals call themselves 0 wide, and long lines are hard to read on very wide ones.
    let width = table.width().filter(|width| *width >= NARROWEST).unwrap_or(WIDEST);
    table.set_width(width.min(WIDEST));
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table
}
