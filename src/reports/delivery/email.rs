//! Mails a report: a short text with the first rows and what may be missing; the whole CSV and its manifest attached.
//!
//! One connection a mail, one mail a recipient. The server takes it over or refuses it within a time limit; a farewell that it
//! keeps waiting for takes two seconds more and changes nothing. Bodies are base64, so no byte of a report
//! can end the mail early or speak SMTP (RUSTSEC-2026-0561 concerns bodies sent as they are, which never happens here), and
//! addresses with control characters are refused before there is a mail. Who is written to comes from the configuration
//! alone. This module knows neither schedules nor what was sent before.

use super::Failure;
use crate::clock::Timestamp;
use crate::reports::document::Document;
use crate::reports::error::ReportError;
use lettre::message::header::{ContentDisposition, ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::{Address, Message};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// Replies to a login (RFC 4954): people mend what causes them, so the mail stays due although they begin with 5.
const LOGIN_REPLIES: [u16; 4] = [530, 534, 535, 538];

/// How long the server may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// `[smtp]` in the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The mail server's name. Empty: no mail is sent.
    pub host: String,
    /// Its port; 0 means the usual one: 25 without encryption, 587 with STARTTLS, 465 with TLS.
    pub port: u16,
    /// `none`, `starttls` (encryption is required, never only tried) or `tls` (encrypted from the first byte).
    pub security: String,
    /// The login, if the server wants one.
    pub username: String,
    /// The password; better in `password_file`.
    pub password: Secret,
    /// A file that holds the password; a line break at its end does not count.
    pub password_file: Option<PathBuf>,
    /// The sender, `address` or `Name <address>`.
    pub from: String,
    /// How long one mail may take until the server has it or refuses it, in seconds, 1 to 3,600.
    pub timeout_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            security: "starttls".to_owned(),
            username: String::new(),
            password: Secret::default(),
            password_file: None,
            from: String::new(),
            timeout_seconds: 60,
        }
    }
}

/// A word that is never shown: it prints, and is written into a printed configuration, as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Somebody who gets mail: an address that fits in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(Mailbox);

impl Recipient {
    /// Reads `address` or `Name <address>`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is no mail address: write user@example.org or \"Name <user@example.org>\"");
        if text.chars().any(char::is_control) {
            return Err(problem());
        }
        let mailbox: Mailbox = text.parse().map_err(|_| problem())?;
        // The parser stops at the end of the first address and is silent about what follows.
        let address = mailbox.email.to_string();
        let end = text.trim_end();
        let whole = end == address || end.strip_suffix('>').is_some_and(|end| end.trim_end().ends_with(&address));
        if whole { Ok(Self(mailbox)) } else { Err(problem()) }
    }

    /// The address without the name.
    pub fn address(&self) -> String {
        self.0.email.to_string()
    }
}

/// How a connection is encrypted, if it is.
#[derive(Clone)]
enum Encryption {
    None,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

/// Sends reports through one mail server.
#[derive(Clone)]
pub struct Mailer {
    host: String,
    port: u16,
    encryption: Encryption,
    credentials: Option<Credentials>,
    from: Mailbox,
    limit: Duration,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The credentials hold the password.
        formatter.debug_struct("Mailer").field("from", &self.from).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Mailer {
    /// Checks the settings and reads the password file; `None` when no host is set. Nothing is connected.
    ///
    /// # Errors
    /// [`ReportError::Mail`] names the key that is wrong.
    pub fn new(settings: &Settings) -> Result<Option<Self>, ReportError> {
        let wrong = |key, problem| Err(ReportError::Mail { key, problem });
        let host = settings.host.as_str();
        if host.is_empty() {
            return Ok(None);
        }
        let limit = match settings.timeout_seconds {
            seconds @ 1..=3600 => Duration::from_secs(seconds),
            other => return wrong("timeout_seconds", format!("{other} is not within 1 to 3600")),
        };
        let from = match Recipient::parse(&settings.from) {
            Ok(Recipient(from)) => from,
            Err(problem) => return wrong("from", problem),
        };
        let encrypted = || {
            let parameters = TlsParameters::new(host.to_owned());
            parameters.map_err(|error| ReportError::Mail { key: "host", problem: format!("\"{host}\": {error}") })
        };
        let (port, encryption) = match settings.security.as_str() {
            "none" => (25, Encryption::None),
            "starttls" => (587, Encryption::StartTls(encrypted()?)),
            "tls" => (465, Encryption::Tls(encrypted()?)),
            other => {
                return wrong("security", format!("\"{other}\" is not known: write \"none\", \"starttls\" or \"tls\""));
            }
        };
        let port = if settings.port == 0 { port } else { settings.port };
        let mut credentials = None;
        if !settings.username.is_empty() {
            let password = match &settings.password_file {
                None => settings.password.0.clone(),
                Some(path) => match std::fs::read_to_string(path) {
                    Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                    Err(error) => return wrong("password_file", format!("{}: {error}", path.display())),
                },
            };
            credentials = Some(Credentials::new(settings.username.clone(), password));
        }
        Ok(Some(Self { host: host.to_owned(), port, encryption, credentials, from, limit }))
    }

    /// Sends `document` to `recipient` as the mail `<message_id@domain of the sender>`, dated `now`.
    ///
    /// # Errors
    /// [`Failure::Permanent`] when the server answers 5xx (other than to the login), else [`Failure::Temporary`].
    pub async fn send(
        &self,
        document: &Document,
        recipient: &Recipient,
        message_id: Uuid,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let message = self.message(document, recipient, message_id, now).map_err(Failure::Permanent)?;
        let told = |reason: &dyn fmt::Display| {
            ReportError::Send(format!("the mail to {} was not sent: {reason}", recipient.address()))
        };
        let handed_over = async {
            let mut connection = self.connect().await?;
            Ok((hand_over(&mut connection, &message).await, connection))
        };
        // The connection's own limit is for each step; a server that dribbles could stretch their sum without end.
        let outcome = match tokio::time::timeout(self.limit, handed_over).await {
            Ok(Ok((outcome, mut connection))) => {
                // It is sent or refused, whatever the server makes of a farewell.
                let _ = tokio::time::timeout(FAREWELL, connection.abort()).await;
                outcome
            }
            Ok(Err(error)) => Err(Refusal::Server(error)),
            Err(_) => {
                let limit = self.limit.as_secs();
                return Err(Failure::Temporary(told(&format_args!("the server took longer than {limit} s"))));
            }
        };
        outcome.map_err(|refusal| match refusal {
            Refusal::Lacks(what) => Failure::Temporary(told(&what)),
            Refusal::Server(error) => {
                let login = error.status().is_some_and(|code| LOGIN_REPLIES.contains(&code.into()));
                let failure = if error.is_permanent() && !login { Failure::Permanent } else { Failure::Temporary };
                failure(told(&error))
            }
        })
    }

    /// A connection that is encrypted and logged in as it must be.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let name = ClientId::default();
        let wrapped = match &self.encryption {
            Encryption::Tls(parameters) => Some(parameters.clone()),
            Encryption::None | Encryption::StartTls(_) => None,
        };
        let (server, limit) = ((self.host.as_str(), self.port), Some(self.limit));
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, limit, &name, wrapped, None).await?;
        if let Encryption::StartTls(parameters) = &self.encryption {
            connection.starttls(parameters.clone(), &name).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    fn message(
        &self,
        document: &Document,
        recipient: &Recipient,
        message_id: Uuid,
        now: Timestamp,
    ) -> Result<Message, ReportError> {
        let problem = |error: &dyn fmt::Display| ReportError::Render(error.to_string());
        if document.name.chars().any(char::is_control) {
            return Err(ReportError::Render("the report's name has control characters".to_owned()));
        }
        let part = |kind: &str, text: &str| {
            let kind = ContentType::parse(kind).map_err(|error| problem(&error))?;
            let body = Body::new_with_encoding(text.as_bytes().to_vec(), ContentTransferEncoding::Base64)
                .map_err(|_| ReportError::Render("base64 was refused".to_owned()))?;
            Ok::<_, ReportError>((SinglePart::builder().header(kind), body))
        };
        // Text in mail has CRLF ends (RFC 2046, 4.1.1); the attachment keeps the file's bytes.
        let (text, summary) = part("text/plain; charset=utf-8", &document.summary.replace('\n', "\r\n"))?;
        let (table, csv) = part("text/csv; charset=utf-8", &document.csv)?;
        let table = table.header(ContentDisposition::attachment(&format!("{}.csv", document.name)));
        let (stamp, manifest) = part("application/json", &document.manifest)?;
        let stamp = stamp.header(ContentDisposition::attachment(&format!("{}.json", document.name)));
        Message::builder()
            .message_id(Some(format!("<{message_id}@{}>", self.from.email.domain())))
            .date(now.to_utc().into())
            .from(self.from.clone())
            .to(recipient.0.clone())
            .subject(format!("Flowledger report {}", document.name))
            .multipart(
                MultiPart::mixed()
                    .singlepart(text.body(summary))
                    .singlepart(table.body(csv))
                    .singlepart(stamp.body(manifest)),
            )
            .map_err(|error| problem(&error))
    }
}

/// Why a server does not take a mail over.
enum Refusal {
    /// It cannot carry the mail.
    Lacks(&'static str),
    /// What it said, or why it said nothing.
    Server(SmtpError),
}

impl From<SmtpError> for Refusal {
    fn from(error: SmtpError) -> Self {
        Self::Server(error)
    }
}

/// Returns when the server has taken the mail over or refused it. By single commands, because the connection's `send` waits
/// for a farewell before it tells a refusal.
async fn hand_over(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), Refusal> {
    let (envelope, bytes) = (message.envelope(), message.formatted());
    let mut parameters = Vec::new();
    let is_ascii = |address: &Address| address.to_string().is_ascii();
    if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Refusal::Lacks("an address is not ASCII, which the server does not take (SMTPUTF8)"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() {
        if !connection.server_info().supports_feature(Extension::EightBitMime) {
            return Err(Refusal::Lacks("a header is not ASCII, which the server does not take (8BITMIME)"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    connection.command(Mail::new(envelope.from().cloned(), parameters)).await?;
    for to in envelope.to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    connection.command(Data).await?;
    connection.message(&bytes).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
