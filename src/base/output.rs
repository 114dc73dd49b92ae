//! What the user sees while work is done: bars on a terminal, plain lines in a log, nothing when
//! it is to be quiet. All of it goes to stderr; stdout is for answers.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    /// Steps and warnings.
    #[default]
    Normal,
    /// Also what is run.
    Verbose,
}

/// Tells the user what is going on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    verbosity: Verbosity,
    terminal: bool,
    colour: bool,
}

impl Reporter {
    /// A reporter for our own stderr.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { verbosity, terminal, colour: terminal && !plain }
    }

    /// Whether stderr is a terminal that bars may be drawn on.
    pub fn draws(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// Whether details are wanted.
    pub fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Says that a step begins.
    pub fn step(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            line(&format!("{} {text}", self.paint("32", ">>>")));
        }
    }

    /// Says something that only those who asked for details want to know.
    pub fn detail(&self, text: &str) {
        if self.is_verbose() {
            line(&format!("    {text}"));
        }
    }

    /// Warns.
    pub fn warn(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            line(&format!("{} {text}", self.paint("33", "warning:")));
        }
    }

    /// Says what went wrong.
    pub fn error(&self, text: &str) {
        line(&format!("{} {text}", self.paint("31", "error:")));
    }

    /// A line that turns while something is done, on a terminal; hidden elsewhere.
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
    // Nothing can be done where stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes an answer to stdout. A reader that has gone away is not an error of ours.
pub(crate) fn answer(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
