//! What is told, when and to whom: scheduled reports as CSV files and mails.
//!
//! [`definition`] says what a report is, [`schedule`] when it is due and for which period, [`run`] makes and delivers what
//! is due, [`csv`] and [`document`] render it, [`delivery`] hands it over. The [`Scheduler`] joins them.
//!
//! It promises that each period of each report is made once, by one of the servers that share a database, also when none
//! ran at the due time: what is due is decided from the database's memory of what was done, never from a timer. The timer
//! (tokio-cron-scheduler) only wakes the loop each minute. Nothing here knows SQL, HTTP or the wire.

pub mod csv;
pub mod definition;
pub mod delivery;
pub mod document;
mod error;
pub mod run;
pub mod schedule;

pub use definition::{Definition, Settings, Surroundings, definitions};
pub use error::ReportError;
pub use run::{Answers, Metrics, Pace, RunOutcome};
pub use schedule::{Period, Span};

use crate::clock::SharedClock;
use crate::store::Database;
use delivery::Deliverer;
use run::Runner;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// How long the loop sleeps at most. The timer goes by the wall clock and waits for an hour when that is set back by one; this
/// limit does not. It is short because reports that wait for their flows are looked at again after seconds.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Runs reports when they are due, or now.
pub struct Scheduler {
    runner: Arc<Runner>,
}

impl Scheduler {
    /// A scheduler at rest, with the usual [`Pace`].
    pub fn new(
        definitions: Vec<Definition>,
        database: Database,
        answers: impl Answers + 'static,
        deliverer: Deliverer,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        let answers = Arc::new(answers);
        Self::from(Runner::new(definitions, database, answers, deliverer, clock, metrics, Pace::default()))
    }

    /// The same scheduler at another pace.
    pub fn with_pace(self, pace: Pace) -> Self {
        Self::from(self.runner.with_pace(pace))
    }

    /// Begins to run what is due: now, then each minute.
    ///
    /// # Errors
    /// [`ReportError::Timer`] when the timer cannot be started.
    pub async fn start(&self) -> Result<Running, ReportError> {
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        let timer = timer(Arc::clone(&wake)).await.map_err(|error| ReportError::Timer(error.to_string()))?;
        let (stop, stopping) = watch::channel(false);
        let runner = Arc::clone(&self.runner);
        let task = tokio::spawn(async move {
            let mut stopped = stopping.clone();
            loop {
                tokio::select! {
                    () = wake.notified() => {}
                    () = tokio::time::sleep(LONGEST_SLEEP) => {}
                    _ = stopped.wait_for(|stop| *stop) => break,
                }
                runner.run_due(&|| *stopping.borrow()).await;
            }
        });
        Ok(Running { stop, task, timer })
    }

    /// Runs everything that is due at the clock's present, and returns when it is done.
    pub async fn run_due(&self) {
        self.runner.run_due(&|| false).await;
    }

    /// Makes the report `name` of `span` (or of its last whole period) now, drops it into the report's directory and, if
    /// `deliver`, mails it to its recipients. It neither counts as the scheduled run of that period nor needs one.
    ///
    /// # Errors
    /// When there is no such report, the question cannot be answered or the file not written. A mail that is not accepted
    /// is told in the outcome.
    pub async fn run_now(&self, name: &str, span: Option<Span>, deliver: bool) -> Result<RunOutcome, ReportError> {
        self.runner.run_now(name, span, deliver).await
    }
}

impl From<Runner> for Scheduler {
    fn from(runner: Runner) -> Self {
        Self { runner: Arc::new(runner) }
    }
}

/// The one job: wake the loop at each full minute. Everything else the crate offers (zones, storage, repetition) has open
/// faults that make reports come an hour late, twice, or never.
async fn timer(wake: Arc<Notify>) -> Result<JobScheduler, JobSchedulerError> {
    let timer = JobScheduler::new().await?;
    let job = Job::new_async("0 * * * * *", move |_, _| {
        let wake = Arc::clone(&wake);
        Box::pin(async move { wake.notify_one() })
    })?;
    timer.add(job).await?;
    timer.start().await?;
    Ok(timer)
}

/// A scheduler at work.
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    timer: JobScheduler,
}

impl Running {
    /// Whether the loop that runs reports has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Finishes the run that is being worked on, begins no other, and returns.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = self.timer.shutdown().await {
            tracing::warn!(%error, "the timer of reports did not stop");
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the loop that runs reports had died");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panicked_is_seen_to_have_ended() {
        let (stop, _) = watch::channel(false);
        let timer = timer(Arc::default()).await.unwrap();
        let running = Running { stop, task: tokio::spawn(async { panic!("a defect") }), timer };
        for _ in 0..1_000 {
            if running.is_finished() {
                return running.stop().await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody would have known");
    }
}
