//! Where finished reports go: a directory, or people's mailboxes.
//!
//! Each destination is delivered to by itself, may be tried again, and says whether trying again can help. Nothing here
//! knows when a report is due or what has been delivered before.

pub mod email;
pub mod file;

use super::document::Document;
use super::error::ReportError;
use crate::clock::Timestamp;
use email::{Mailer, Recipient};
use std::path::PathBuf;
use uuid::Uuid;

/// One place a report goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Files in this directory.
    File(PathBuf),
    /// A mail to this person.
    Email(Recipient),
}

impl Destination {
    /// `file` or `email`, as in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Email(_) => "email",
        }
    }

    /// The directory or the address.
    pub fn address(&self) -> String {
        match self {
            Self::File(directory) => directory.display().to_string(),
            Self::Email(recipient) => recipient.address(),
        }
    }
}

/// Why a delivery did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Trying again cannot help.
    Permanent(ReportError),
    /// It may succeed later.
    Temporary(ReportError),
}

/// Everything deliveries need.
#[derive(Clone, Debug, Default)]
pub struct Deliverer {
    /// Sends mail, where `[smtp]` is configured.
    pub mailer: Option<Mailer>,
}

impl Deliverer {
    /// Delivers `document` to `destination`; a mail is called `message_id` and dated `now`. Delivering a file again
    /// replaces it by the same bytes; delivering a mail again sends it again, under the same name if the caller keeps it.
    ///
    /// # Errors
    /// [`Failure`] says what was wrong and whether to try again.
    pub async fn deliver(
        &self,
        document: &Document,
        destination: &Destination,
        message_id: Uuid,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match destination {
            // A full disk or a missing right is mended by people, so every failure of a file may pass.
            Destination::File(directory) => {
                file::write(directory.clone(), document.clone()).await.map(drop).map_err(Failure::Temporary)
            }
            Destination::Email(recipient) => match &self.mailer {
                Some(mailer) => mailer.send(document, recipient, message_id, now).await,
                None => Err(Failure::Temporary(ReportError::Mail {
                    key: "host",
                    problem: "no mail server is configured: give its name".to_owned(),
                })),
            },
        }
    }
}
