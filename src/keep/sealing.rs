//! The rounds of sealing: hours that are over are sealed, partitions that are empty by it are dropped, days are added up, totals packed.
//!
//! A round seals for a few minutes at most and each of its steps is bounded by itself, so that hours that take long, or fail, keep
//! no other step from being done. What fails is tried again in the next round, but an hour only after some minutes: to try it
//! means to decode all of it, and later hours are sealed meanwhile. When the database is away, or its disk is full, that is not
//! the hour's fault: the round ends.

use super::seal::{SealError, seal};
use super::{LONGEST, Upkeep, in_time, pack, sum_days};
use crate::clock::Timestamp;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long hours are sealed before the rest of the round is done.
const LONGEST_SEALING: Duration = Duration::from_secs(300);
/// How long an hour that could not be sealed is left alone.
const RETRY: Duration = Duration::from_secs(300);
/// How many hours are sealed before it looks again.
const HOURS_AT_ONCE: i64 = 24;

/// The hours that could not be sealed lately, and when they were tried.
#[derive(Debug, Default)]
pub(super) struct Failed(BTreeMap<Timestamp, Instant>);

impl Failed {
    /// Whether the hour is to be left alone at the moment `now`.
    fn waits(&self, hour: Timestamp, now: Instant) -> bool {
        self.0.get(&hour).is_some_and(|tried| now.saturating_duration_since(*tried) < RETRY)
    }

    fn note(&mut self, hour: Timestamp, now: Instant) {
        self.0.retain(|_, tried| now.saturating_duration_since(*tried) < RETRY);
        self.0.insert(hour, now);
    }
}

impl Upkeep {
    /// A round. Returns whether there may be more to do at once, as after an archive was brought in.
    pub(super) async fn seal_round(&self, failed: &mut Failed) -> bool {
        let (database, now) = (&self.database, self.clock.now());
        // What a collector has not stored yet may belong to an hour that is over. A clock that is ahead must not seal an hour
        // that goes on.
        let until = in_time(database.complete_until()).await.map(|until| until.unwrap_or(now).min(now));
        let again = format!("sealing tries again in {} s", super::SEALING.as_secs());
        let Some(until) = self.step(&again, until) else { return false };
        let sealed = self.seal_hours(until, failed).await;
        let more = self.step(&again, sealed).unwrap_or(false);
        self.step(
            "partitions of open segments that are over stay until who uses their table since before has ended",
            in_time(database.drop_sealed()).await,
        );
        self.step("days that were detached to be dropped stay for now", in_time(database.drop_left_behind()).await);
        let summed = in_time(sum_days(database, until, &self.local, &self.counting)).await;
        if let Some(days) = self.step("days are not added up yet", summed) {
            self.metrics.summed.inc_by(days);
        }
        let packed = self.step("totals that are not packed are read row by row", in_time(pack::pack(database)).await);
        more || packed == Some(true)
    }

    /// Seals hours that ended before `until`. Returns whether more are left that can be.
    async fn seal_hours(&self, until: Timestamp, failed: &mut Failed) -> Result<bool, StoreError> {
        let (database, began) = (&self.database, self.clock.instant());
        let fingerprint = self.counting.fingerprint(&self.local);
        let (mut sealed, mut after) = (0i64, None);
        // Behind hours that cannot be sealed there may be others that can.
        while sealed < HOURS_AT_ONCE {
            let hours = in_time(database.hours_to_seal(until, after, &fingerprint, HOURS_AT_ONCE)).await?;
            for hour in &hours {
                let now = self.clock.instant();
                if now.saturating_duration_since(began) >= LONGEST_SEALING {
                    return Ok(true);
                }
                if failed.waits(*hour, now) {
                    continue;
                }
                let done = tokio::time::timeout(LONGEST, seal(database, *hour, &self.local, &self.counting));
                match done.await {
                    Ok(Ok(true)) => {
                        self.metrics.sealed.inc();
                        sealed = sealed.saturating_add(1);
                    }
                    Ok(Ok(false)) => {}
                    // Where the database answers, it is the hour's: a lock that somebody keeps, a file that cannot be read.
                    Ok(Err(SealError::Store(error)))
                        if error.is_full_disk() || error.is_outage() && database.now().await.is_err() =>
                    {
                        return Err(error);
                    }
                    Ok(Err(error)) => {
                        failed.note(*hour, self.clock.instant());
                        self.failed(&format!("the hour {hour} stays open"), &error);
                    }
                    Err(_) => {
                        failed.note(*hour, self.clock.instant());
                        let error = StoreError::Silent { seconds: LONGEST.as_secs() };
                        self.failed(&format!("the hour {hour} stays open"), &error);
                    }
                }
            }
            after = hours.last().copied();
            if hours.len() < HOURS_AT_ONCE as usize {
                break;
            }
        }
        Ok(sealed >= HOURS_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_failed_is_left_alone_for_some_minutes_and_others_are_not() {
        let (mut failed, now) = (Failed::default(), Instant::now());
        let (one, other) = (Timestamp::from_micros(0), Timestamp::from_micros(1));
        failed.note(one, now);
        assert!(failed.waits(one, now) && !failed.waits(other, now));
        assert!(failed.waits(one, now + RETRY - Duration::from_secs(1)));
        assert!(!failed.waits(one, now + RETRY));
        failed.note(other, now + RETRY);
        assert_eq!(failed.0.len(), 1, "what waits no longer is forgotten");
    }
}
