//! Carrying out what `retention` decided: hours of a day of segments are sealed before it goes, because their totals outlive it.
//!
//! Where an hour cannot be sealed, because a segment of it is damaged, or because flows it was counted with are gone and the rules
//! of that count are, too, its day goes all the same, and that is told. An error that may pass keeps the day, and no other hour
//! from being sealed.

use super::retention::{Goes, Plan};
use super::seal::{SealError, seal};
use crate::clock::{DAY, Timestamp};
use crate::columns::ColumnsError;
use crate::flow::counting::Counting;
use crate::flow::local::Local;
use crate::store::drops::{Deleted, Dropped, Part};
use crate::store::hours::CountedOtherwise;
use crate::store::partitions::DailyTable;
use crate::store::{Database, StoreError};
use std::collections::BTreeSet;

/// What drops, with what it needs to seal what it drops.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    /// Where.
    pub database: &'a Database,
    /// The hosts that have totals.
    pub local: &'a Local,
    /// The rules by which flows count.
    pub counting: &'a Counting,
}

impl CountedOtherwise {
    /// What is the matter, in words.
    pub fn told(&self) -> String {
        format!(
            "the totals of {} hours from {} to {} were counted by other [network] local or rules of counting than the present \
             ones",
            self.hours,
            written(self.from),
            written(self.to)
        )
    }

    /// What counts them anew, as long as their flows are there.
    pub fn remedy(&self) -> String {
        format!("flowledger rebuild-totals --from {} --to {}", written(self.from), written(self.to))
    }
}

fn written(moment: Timestamp) -> impl std::fmt::Display {
    moment.to_utc().format("%FT%TZ")
}

/// Why a part stays although it was to go.
#[derive(Debug, thiserror::Error)]
pub enum Stays {
    /// The database refused, or the table is in use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It holds an hour that somebody else seals or stores flows of.
    #[error("the hour {0} is not sealed yet, and its totals outlive its flows")]
    NotSealed(Timestamp),
    /// It holds an hour that cannot be sealed now.
    #[error("the hour {hour} cannot be sealed now, and its totals outlive its flows: {source}")]
    Fails {
        /// The hour.
        hour: Timestamp,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// It holds totals of hours that have segments.
    #[error("segments of it are there")]
    HasSegments,
    /// Something that goes before it stays.
    #[error("what goes before it stays")]
    Behind,
}

/// The open hours that went with a day although they could not be sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    /// Which.
    pub hours: Vec<Timestamp>,
    /// What of them waited in open segments.
    pub deleted: Deleted,
}

/// The open hours of a stretch, after all that can be sealed were.
#[derive(Debug, Default)]
struct Rest {
    /// Those that can never be sealed.
    stuck: Vec<Timestamp>,
    /// Why others, which may be, are not yet.
    later: Vec<Stays>,
}

impl Expiry<'_> {
    /// Carries out a plan, and tells what became of each of its parts. Where a day stays, later days of its table stay, too,
    /// because who uses a table uses all of it, and totals stay as long as flows do that were to go.
    pub async fn carry_out(&self, plan: &Plan, mut tell: impl FnMut(&Goes, Result<Uncounted, Stays>)) {
        let mut kept = BTreeSet::new();
        for goes in &plan.goes {
            let behind = match goes.part {
                Part::Day(table, _) => kept.contains(&table),
                Part::Month(_) => !kept.is_empty(),
            };
            let outcome = if behind { Err(Stays::Behind) } else { self.drop_part(goes.part).await };
            if let (Part::Day(table, _), Err(_)) = (goes.part, &outcome) {
                kept.insert(table);
            }
            tell(goes, outcome);
        }
    }

    /// Drops a part, after what is to outlive it was counted. Returns what went with it uncounted.
    ///
    /// # Errors
    /// Why it stays; another try may be luckier.
    pub async fn drop_part(&self, part: Part) -> Result<Uncounted, Stays> {
        let (mut stuck, mut otherwise) = (Vec::new(), None);
        if let Part::Day(DailyTable::FlowSegments, day) = part {
            let rest = self.seal_all(day, day.plus(DAY)).await?;
            if let Some(stays) = rest.later.into_iter().next() {
                return Err(stays);
            }
            stuck = rest.stuck;
            otherwise = self.counted_otherwise(day).await?;
        }
        match self.database.drop_part(part, Some(&stuck)).await? {
            Dropped::Gone => {}
            Dropped::HasSegments => return Err(Stays::HasSegments),
            Dropped::Open(hour) => return Err(Stays::NotSealed(hour)),
        }
        if let Some(otherwise) = otherwise {
            tracing::warn!(
                "a day went, and {}: they stay so, because their flows are gone; after a change of these settings run \
                 flowledger rebuild-totals while the flows are there",
                otherwise.told()
            );
        }
        // The day is gone. What could not be deleted now goes when it is older than segments are kept.
        let deleted = self.drop_stuck(&stuck, "its day goes").await.unwrap_or_else(|error| {
            tracing::warn!("open segments of a day that went stay for now: {error}");
            Deleted::default()
        });
        Ok(Uncounted { hours: stuck, deleted })
    }

    /// The hours of a day whose totals were counted by other networks or rules, and stay so when its flows go.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counted_otherwise(&self, day: Timestamp) -> Result<Option<CountedOtherwise>, StoreError> {
        self.database.counted_otherwise(day, day.plus(DAY), &self.counting.fingerprint(self.local)).await
    }

    /// Deletes the open segments of hours before `oldest`, of which flows are no longer kept, as far as they cannot be
    /// sealed. Returns how many.
    ///
    /// # Errors
    /// When the database does not answer, or an hour is in use.
    pub async fn drop_open(&self, oldest: Timestamp) -> Result<Deleted, StoreError> {
        let rest = self.seal_all(Timestamp::from_micros(0), oldest).await?;
        for stays in rest.later.iter().filter(|stays| matches!(stays, Stays::Fails { .. })) {
            tracing::warn!("old open segments stay for now: {stays}");
        }
        self.drop_stuck(&rest.stuck, "it is older than [storage] segments_days").await
    }

    async fn drop_stuck(&self, hours: &[Timestamp], why: &str) -> Result<Deleted, StoreError> {
        let mut sum = Deleted::default();
        for hour in hours {
            let deleted = self.database.drop_open(&[*hour]).await?;
            tracing::warn!(
                "the hour {hour} could not be sealed, and {why}: {} flows that waited in {} segments are deleted, and its \
                 totals are not used",
                deleted.flows,
                deleted.segments
            );
            sum.segments = sum.segments.saturating_add(deleted.segments);
            sum.flows = sum.flows.saturating_add(deleted.flows);
        }
        Ok(sum)
    }

    /// Seals the open hours from `from` up to `to`, as far as that can be.
    async fn seal_all(&self, from: Timestamp, to: Timestamp) -> Result<Rest, StoreError> {
        let mut rest = Rest::default();
        for open in self.database.open_hours(from, to, &self.counting.fingerprint(self.local)).await? {
            if open.waits {
                tracing::warn!(
                    "the hour {} waits until [network] local or the rules that its totals were counted by are back",
                    open.hour
                );
                rest.stuck.push(open.hour);
                continue;
            }
            match seal(self.database, open.hour, self.local, self.counting).await {
                Ok(true) => {}
                Ok(false) => rest.later.push(Stays::NotSealed(open.hour)),
                // When the database is away, that is not the hour's fault.
                Err(SealError::Store(error)) if error.is_outage() && self.database.now().await.is_err() => {
                    return Err(error);
                }
                // Totals are not given up for what may pass, such as a file that cannot be read at the moment.
                Err(SealError::Store(source)) if !source.is_damage() => {
                    rest.later.push(Stays::Fails { hour: open.hour, source });
                }
                // A later version of this program can.
                Err(error @ SealError::Columns { source: ColumnsError::Version { .. }, .. }) => {
                    tracing::error!("{error}");
                    rest.later.push(Stays::NotSealed(open.hour));
                }
                Err(error) => {
                    tracing::warn!("the hour {} cannot be sealed: {error}", open.hour);
                    rest.stuck.push(open.hour);
                }
            }
        }
        Ok(rest)
    }
}
