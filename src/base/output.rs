//! Messages to the user during a run: bars on a terminal, plain lines in a log, nothing when quiet.
//! All of them are written to stderr; stdout is reserved for results.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::level::Level;

/// Amount of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Steps and warnings.
    #[default]
    Normal,
    /// Also the commands that are run.
    Verbose,
}

/// Reports progress, warnings and errors to the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    verbosity: Verbosity,
    terminal: bool,
    colour: bool,
}

impl Reporter {
    /// Makes a reporter for the stderr of this process.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { verbosity, terminal, colour: terminal && !plain }
    }

    /// Returns whether stderr is a terminal on which bars may be drawn.
    pub fn draws(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// Returns whether details are shown.
    pub fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Reports the start of a step.
    pub fn step(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            line(&format!("{} {text}", self.paint("32", ">>>")));
        }
    }

    /// Reports a detail, which is shown only in verbose mode.
    pub fn detail(&self, text: &str) {
        if self.is_verbose() {
            line(&format!("    {text}"));
        }
    }

    /// Reports a warning.
    pub fn warn(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            line(&format!("{} {text}", self.paint("33", "warning:")));
        }
    }

    /// Reports a finding of a rule, and a remedy for it.
    pub(crate) fn finding(&self, level: Level, rule: &str, text: &str, help: &str) {
        if level != Level::Error && self.verbosity == Verbosity::Quiet {
            return;
        }
        let colour = if level == Level::Error { "31" } else { "33" };
        line(&format!("{} {text}", self.paint(colour, &format!("{level}[{rule}]:"))));
        line(&format!("help: {help}"));
    }

    /// Reports an error.
    pub fn error(&self, text: &str) {
        line(&format!("{} {text}", self.paint("31", "error:")));
    }

    /// Shows a spinner on a terminal while something is done; it is hidden elsewhere.
    pub fn spinner(&self) -> ProgressBar {
        if !self.draws() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn line(text: &str) {
    // If stderr is closed, there is nowhere to report the failure.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a result to stdout. It is no error if the reader has closed the pipe.
pub(crate) fn answer(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
