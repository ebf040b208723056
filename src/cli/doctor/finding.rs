//! What a check found, and how it is shown. Knows no check.

use std::fmt::{self, Display, Formatter};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is as it ought to be.
    Good,
    /// Something differs.
    Difference,
    /// Nothing differs, but somebody should know.
    Warning,
    /// There is nothing to compare.
    NotApplicable,
}

/// One check and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was compared, or every difference or warning, or why nothing was compared.
    pub(super) details: Vec<String>,
}

impl Finding {
    /// A difference for each of `differences`; without any all is good, and `compared` says what was compared.
    pub(super) fn of(check: &'static str, compared: impl Into<String>, differences: Vec<String>) -> Self {
        if differences.is_empty() {
            Self { check, verdict: Verdict::Good, details: vec![compared.into()] }
        } else {
            Self { check, verdict: Verdict::Difference, details: differences }
        }
    }

    /// What somebody should know; without any all is good, and `compared` says what was looked at.
    pub(super) fn warning(check: &'static str, compared: impl Into<String>, warnings: Vec<String>) -> Self {
        match Self::of(check, compared, warnings) {
            Self { verdict: Verdict::Difference, details, .. } => Self { check, verdict: Verdict::Warning, details },
            good => good,
        }
    }

    /// Nothing to compare, and why.
    pub(super) fn not_applicable(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::NotApplicable, details: vec![why.into()] }
    }
}

impl Display for Finding {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "OK",
            Verdict::Difference => "DIFFERENCE",
            Verdict::Warning => "WARNING",
            Verdict::NotApplicable => "n/a",
        };
        let mut before = format!("{verdict:<10}  {:<24}", self.check);
        for detail in &self.details {
            writeln!(formatter, "{before}  {detail}")?;
            before = " ".repeat(before.len());
        }
        Ok(())
    }
}
