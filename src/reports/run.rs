//! Makes and delivers what is due: one pass over all reports, or one report now.
//!
//! A period is put on record when it falls due, claimed by one server for the length of a lease, asked for, rendered,
//! kept, and delivered place by place; each step is written down, so that whoever claims it next goes on there. A file is
//! repeat-safe. A mail is marked before and after it is sent: a crash in between repeats it under the same Message-ID. What
//! fails for a reason that may pass stays due, at growing intervals. This module decides by the clock it is given when
//! something is due, and by the database's clock how long to hold and to wait.

use super::definition::Definition;
use super::delivery::{Deliverer, Destination, Failure, file};
use super::document::Document;
use super::error::ReportError;
use super::schedule::Span;
use crate::clock::SharedClock;
use crate::metrics::{Counter, Family, Registry};
use crate::query::{Engine, QueryError, TopAnswer, TopRequest, Window};
use crate::store::reports::{Claim, KeptDocument, NewRun, RunKey, Verdict};
use crate::store::{Database, StoreError};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Where answers come from. It is the query engine, except in tests.
pub trait Answers: Send + Sync {
    /// The largest groups of a window.
    fn top<'a>(&'a self, request: &'a TopRequest) -> Answer<'a>;
}

/// An answer to come.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<TopAnswer, QueryError>> + Send + 'a>>;

impl Answers for Engine {
    fn top<'a>(&'a self, request: &'a TopRequest) -> Answer<'a> {
        Box::pin(Self::top(self, request))
    }
}

/// How long things are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the due moment to the run, for flows that come late. 10 minutes.
    pub grace: Duration,
    /// How many missed periods are made up after a sleep; older ones are marked as skipped. 4.
    pub catch_up: usize,
    /// How long a server that fell silent keeps its run. 2 minutes.
    pub lease: Duration,
    /// From one look to the next when the period's flows are not all stored yet; the first looks come sooner, since after a start
    /// all is stored in a moment. 1 minute.
    pub look_again: Duration,
    /// How long is waited for them; then the report is made and says what it lacks. 6 hours.
    pub patience: Duration,
    /// From a failure to the next attempt; it doubles with each. 1 minute.
    pub first_pause: Duration,
    /// What the pause grows to. 1 hour.
    pub longest_pause: Duration,
    /// When attempts end. 5 days, as mail servers have it (RFC 5321, 4.5.4.1).
    pub give_up: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(600),
            catch_up: 4,
            lease: Duration::from_secs(120),
            look_again: Duration::from_secs(60),
            patience: Duration::from_secs(6 * 3600),
            first_pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(3600),
            give_up: Duration::from_secs(5 * 86_400),
        }
    }
}

/// From the first look at flows that are not all stored to the next; it doubles with each.
const FIRST_LOOK: Duration = Duration::from_secs(5);

impl Pace {
    /// The pause after look number `attempts`.
    fn look(&self, attempts: u32) -> Duration {
        doubled(FIRST_LOOK, attempts, self.look_again)
    }

    /// The pause after the failure of attempt number `attempts`.
    fn pause(&self, attempts: u32) -> Duration {
        doubled(self.first_pause, attempts, self.longest_pause)
    }
}

/// The pause after attempt number `attempts`: `first`, doubled with each further one, at most `longest`.
fn doubled(first: Duration, attempts: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(longest)
}

/// What reports count.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Runs that ended, by outcome: done, failed, again, lost.
    pub runs: Family<[(&'static str, &'static str); 1], Counter>,
    /// Deliveries tried, by kind and outcome: sent, failed, again.
    pub deliveries: Family<[(&'static str, &'static str); 2], Counter>,
}

impl Metrics {
    /// Shows the counters in `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("reports_runs", "Attempts to make and deliver a period, by outcome", self.runs.clone());
        let help = "Attempts to deliver to one place, by kind and outcome";
        registry.register("reports_deliveries", help, self.deliveries.clone());
    }
}

/// What a run by hand came to.
#[derive(Debug)]
pub struct RunOutcome {
    /// The CSV.
    pub path: PathBuf,
    /// The report in a few lines.
    pub summary: String,
    /// Who got a mail.
    pub mailed: Vec<String>,
    /// Who did not, and why.
    pub refused: Vec<(String, ReportError)>,
}

/// What runs need.
#[derive(Clone)]
pub(super) struct Runner {
    definitions: Vec<Definition>,
    database: Database,
    answers: Arc<dyn Answers>,
    deliverer: Deliverer,
    clock: SharedClock,
    metrics: Metrics,
    pace: Pace,
    /// The name of this server in claims.
    owner: String,
}

impl Runner {
    pub(super) fn new(
        definitions: Vec<Definition>,
        database: Database,
        answers: Arc<dyn Answers>,
        deliverer: Deliverer,
        clock: SharedClock,
        metrics: Metrics,
        pace: Pace,
    ) -> Self {
        let owner = Uuid::new_v4().to_string();
        Self { definitions, database, answers, deliverer, clock, metrics, pace, owner }
    }

    pub(super) fn with_pace(&self, pace: Pace) -> Self {
        Self { pace, ..self.clone() }
    }

    /// Runs what is due, one after the other, until nothing is or `stopping` says so.
    pub(super) async fn run_due(&self, stopping: &(dyn Fn() -> bool + Sync)) {
        for definition in &self.definitions {
            if let Err(error) = self.run_report(definition, stopping).await {
                tracing::error!(report = definition.name, %error, "the report could not be run; it stays due");
            }
        }
    }

    async fn run_report(
        &self,
        definition: &Definition,
        stopping: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StoreError> {
        self.record_due(definition).await?;
        while !stopping() {
            let claim = self.database.claim_report_run(&definition.name, &self.owner, self.pace.lease).await?;
            let Some(claim) = claim else { break };
            self.work(definition, &claim).await?;
        }
        Ok(())
    }

    /// Puts on record what fell due since the last period that is. Of many missed ones only the latest are made up.
    async fn record_due(&self, definition: &Definition) -> Result<(), StoreError> {
        let grace = i64::try_from(self.pace.grace.as_micros()).unwrap_or(i64::MAX);
        let now = self.clock.now();
        let recorded = self.database.last_report_period(&definition.name, now).await?;
        let due = definition.schedule.due(definition.period, now.plus(grace.saturating_neg()), recorded);
        let skipped = due.len().saturating_sub(self.pace.catch_up);
        if skipped > 0 {
            tracing::warn!(report = definition.name, skipped, "missed periods are too many to make up all");
        }
        let new_run = |(index, due): (usize, &super::schedule::Due)| NewRun {
            key: RunKey { report: definition.name.clone(), start: due.window.from, end: due.window.to },
            period: due.span.to_string(),
            due: due.at,
            skipped: index < skipped,
        };
        let runs: Vec<_> = due.iter().enumerate().map(new_run).collect();
        if runs.is_empty() { Ok(()) } else { self.database.record_report_runs(&runs).await }
    }

    /// Works on a claimed run while the claim is held.
    async fn work(&self, definition: &Definition, claim: &Claim) -> Result<(), StoreError> {
        let verdict = tokio::select! {
            verdict = self.make_and_deliver(definition, claim) => verdict?,
            () = self.hold(claim) => None,
        };
        let (report, period) = (&definition.name, &claim.period);
        let outcome = match &verdict {
            None => {
                tracing::warn!(report, period, "another server took the run over");
                "lost"
            }
            Some(Verdict::Done) => {
                tracing::info!(report, period, "the report is delivered");
                "done"
            }
            Some(Verdict::Failed(reason)) => {
                tracing::error!(report, period, reason, "the report is given up");
                "failed"
            }
            Some(Verdict::Again(pause, reason)) => {
                tracing::warn!(report, period, reason, seconds = pause.as_secs(), "the report is tried again");
                "again"
            }
        };
        self.metrics.runs.get_or_create(&[("outcome", outcome)]).inc();
        match verdict {
            Some(verdict) => self.database.end_report_claim(claim, &verdict).await,
            None => Ok(()),
        }
    }

    /// Renews the claim until it is lost.
    async fn hold(&self, claim: &Claim) {
        loop {
            tokio::time::sleep(self.pace.lease / 3).await;
            match self.database.renew_report_claim(claim, self.pace.lease).await {
                Ok(true) => {}
                Ok(false) => return,
                // Whether the claim is lost is decided when the database answers again; nothing is sent until then,
                // because each delivery asks it first.
                Err(error) => tracing::warn!(report = claim.key.report, %error, "the claim could not be renewed"),
            }
        }
    }

    /// What the report tells of `window`. Where that cuts hours of which only totals are left, as days do in zones off by 30 or
    /// 45 minutes, it tells of the whole hours within, and the stamp says how long nothing is told of.
    async fn ask(&self, definition: &Definition, window: Window) -> Result<TopAnswer, QueryError> {
        match self.answers.top(&definition.request(window)).await {
            Err(QueryError::WindowNotOnHours { inner: Some(inner), .. }) => {
                let answer = self.answers.top(&definition.request(inner)).await?;
                let told = inner.to.micros().saturating_sub(inner.from.micros());
                let cut = window.to.micros().saturating_sub(window.from.micros()).saturating_sub(told);
                Ok(TopAnswer { completeness: answer.completeness.without(cut), ..answer })
            }
            other => other,
        }
    }

    /// One attempt. `None` when the claim is lost.
    async fn make_and_deliver(&self, definition: &Definition, claim: &Claim) -> Result<Option<Verdict>, StoreError> {
        let again = |pause, reason| match claim.age >= self.pace.give_up {
            true => Ok(Some(Verdict::Failed(reason))),
            false => Ok(Some(Verdict::Again(pause, reason))),
        };
        let document = match &claim.document {
            Some(kept) => Document::from(kept.clone()),
            None => {
                let window = Window { from: claim.key.start, to: claim.key.end, zone: definition.schedule.zone() };
                let answer = match self.ask(definition, window).await {
                    Ok(answer) => answer,
                    Err(error) => return again(self.pace.pause(claim.attempts), error.to_string()),
                };
                if let Some(stale) = answer.completeness.stale_since
                    && claim.age < self.pace.patience
                {
                    let reason = format!("waits until what was received after {stale} is stored");
                    return Ok(Some(Verdict::Again(self.pace.look(claim.attempts), reason)));
                }
                let made = Document::new(definition, &claim.period, window, &answer, self.clock.now());
                match made {
                    Ok(document) => document,
                    Err(error) => return Ok(Some(Verdict::Failed(error.to_string()))),
                }
            }
        };
        if claim.document.is_none()
            && !self.database.keep_report_document(claim, &KeptDocument::from(document.clone())).await?
        {
            return Ok(None);
        }
        self.deliver(definition, claim, &document).await
    }

    async fn deliver(
        &self,
        definition: &Definition,
        claim: &Claim,
        document: &Document,
    ) -> Result<Option<Verdict>, StoreError> {
        let places: Vec<_> = definition.destinations.iter().map(|place| (place.kind(), place.address())).collect();
        let known = self.database.report_deliveries(&claim.key, &places).await?;
        let (mut refused, mut waiting, mut most) = (Vec::new(), Vec::new(), 0);
        for (destination, (kind, address)) in definition.destinations.iter().zip(&places) {
            let row = known.iter().find(|row| row.delivery == *kind && row.recipient == *address);
            let (state, attempts) = row.map_or(("pending", 0), |row| (row.state.as_str(), row.attempts));
            match state {
                "sent" => continue,
                "failed" => {
                    refused.push(row.and_then(|row| row.error.clone()).unwrap_or_default());
                    continue;
                }
                _ => {}
            }
            let id = message_id(document, address);
            if !self.database.begin_report_delivery(claim, kind, address, &id.to_string()).await? {
                return Ok(None);
            }
            let delivered = self.deliverer.deliver(document, destination, id, self.clock.now()).await;
            let (state, outcome, reason) = match delivered {
                Ok(()) => ("sent", "sent", None),
                Err(Failure::Permanent(error)) => ("failed", "failed", Some(error.to_string())),
                Err(Failure::Temporary(error)) if claim.age >= self.pace.give_up => {
                    ("failed", "failed", Some(format!("given up: {error}")))
                }
                Err(Failure::Temporary(error)) => ("pending", "again", Some(error.to_string())),
            };
            self.metrics.deliveries.get_or_create(&[("delivery", kind), ("outcome", outcome)]).inc();
            self.database.end_report_delivery(&claim.key, kind, address, state, reason.as_deref()).await?;
            match reason {
                Some(reason) if state == "failed" => refused.push(reason),
                Some(reason) => {
                    waiting.push(reason);
                    most = attempts.saturating_add(1).max(most);
                }
                None => {}
            }
        }
        Ok(Some(if !waiting.is_empty() {
            Verdict::Again(self.pace.pause(most), waiting.join("; "))
        } else if refused.is_empty() {
            Verdict::Done
        } else {
            Verdict::Failed(refused.join("; "))
        }))
    }

    pub(super) async fn run_now(
        &self,
        name: &str,
        span: Option<Span>,
        deliver: bool,
    ) -> Result<RunOutcome, ReportError> {
        let definition = self.definitions.iter().find(|definition| definition.name == name).ok_or_else(|| {
            let known: Vec<_> = self.definitions.iter().map(|definition| definition.name.as_str()).collect();
            ReportError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })?;
        let now = self.clock.now();
        let zone = definition.schedule.zone();
        let span = span.unwrap_or_else(|| definition.period.previous(now, zone));
        let window = span.window(zone);
        let answer = self.ask(definition, window).await?;
        let document = Document::new(definition, &span.to_string(), window, &answer, now)?;
        let path = file::write(definition.directory.clone(), document.clone()).await?;
        let mut outcome =
            RunOutcome { path, summary: document.summary.clone(), mailed: Vec::new(), refused: Vec::new() };
        let mails = definition.destinations.iter().filter(|place| matches!(place, Destination::Email(_)));
        for place in mails.filter(|_| deliver) {
            let id = message_id(&document, &place.address());
            match self.deliverer.deliver(&document, place, id, now).await {
                Ok(()) => outcome.mailed.push(place.address()),
                Err(Failure::Permanent(error) | Failure::Temporary(error)) => {
                    outcome.refused.push((place.address(), error));
                }
            }
        }
        Ok(outcome)
    }
}

/// The name of the mail that brings `document` to `address`. It follows from the two alone, so a repeated mail is
/// recognised; the manifest tells when the document was made, so two servers of one owner do not share names.
fn message_id(document: &Document, address: &str) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("flowledger report\n{}\n{}{address}", document.name, document.manifest).as_bytes(),
    )
}

impl From<KeptDocument> for Document {
    fn from(kept: KeptDocument) -> Self {
        let KeptDocument { name, csv, manifest, summary, rows } = kept;
        Self { name, csv, manifest, summary, rows }
    }
}

impl From<Document> for KeptDocument {
    fn from(document: Document) -> Self {
        let Document { name, csv, manifest, summary, rows } = document;
        Self { name, csv, manifest, summary, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pace = Pace::default();
        let minutes: Vec<_> = [0, 1, 2, 3, 6, 7, u32::MAX].map(|attempt| pace.pause(attempt).as_secs() / 60).to_vec();
        assert_eq!(minutes, [1, 1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn a_mail_is_named_after_document_and_recipient() {
        let document = Document {
            name: "weekly_2026-W47".to_owned(),
            csv: String::new(),
            manifest: "{}".to_owned(),
            summary: String::new(),
            rows: 0,
        };
        let other = Document { manifest: "{ }".to_owned(), ..document.clone() };
        let id = message_id(&document, "a@example.org");
        assert_eq!(id, message_id(&document, "a@example.org"));
        assert_ne!(id, message_id(&document, "b@example.org"));
        assert_ne!(id, message_id(&other, "a@example.org"));
    }
}
