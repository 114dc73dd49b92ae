//! Severity of a finding, shared by the check of a root and the check against a target.

use serde::{Deserialize, Serialize};

/// Severity of a finding, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The check fails.
    Error,
    /// The check passes, but something may not work.
    Warning,
    /// The check passes; the fact is worth knowing.
    Note,
}
