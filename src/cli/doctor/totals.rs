//! Host totals against what they were added up from: hours against the flows of their segments, days against their hours.
//!
//! An hour is counted anew from its columns by what counts now. Hours that are open, that were counted by other networks or
//! rules, or whose flows are no longer kept, have nothing to be compared with; their number is told.

use super::checks;
use super::finding::Finding;
use crate::clock::{DAY, HOUR, Timestamp};
use crate::columns::{Decoder, unpack_totals};
use crate::flow::batch::FlowBatch;
use crate::flow::counting::Counting;
use crate::flow::fields::Field;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use crate::flow::local::Local;
use crate::keep::totals::{Totals, fields};
use crate::store::host_traffic::Stretch;
use crate::store::packed::Period;
use crate::store::snapshot::Snapshot;
use std::error::Error;

const CHECK: &str = "host totals = segments";
/// How many hours of a day are compared where not all are, spread over it.
const SAMPLE: usize = 3;

/// Compares the hours of `days`, `every` one or a sample, and all days that are added up.
pub(super) async fn compare(
    snapshot: &mut Snapshot,
    days: &[Timestamp],
    every: bool,
    local: &Local,
    counting: &Counting,
) -> Result<[Finding; 2], Box<dyn Error>> {
    let rules = counting.of_exporters(snapshot.exporters().await?);
    let fields = fields(&rules, &[]);
    let (mut compared, mut sealed, mut others, mut skipped) = (0usize, 0usize, 0usize, 0usize);
    let mut differences = Vec::new();
    for day in days {
        if let Some(rows) = snapshot.totals_of(Period::Day(*day)).await? {
            differences.extend(packed(snapshot, Period::Day(*day), &rows).await?);
        }
        let (hours, rest) = snapshot.counted_hours(*day, day.plus(DAY), &counting.fingerprint(local)).await?;
        (sealed, others) = (sealed.saturating_add(hours.len()), others.saturating_add(rest));
        let step = if every { 1 } else { hours.len().div_ceil(SAMPLE).max(1) };
        for hour in hours.into_iter().step_by(step) {
            let mut counted = Totals::new(local.clone(), rules.clone());
            let Some(rows) = snapshot.totals_of(Period::Hour(hour)).await? else {
                skipped = skipped.saturating_add(1);
                continue;
            };
            compared = compared.saturating_add(1);
            differences.extend(packed(snapshot, Period::Hour(hour), &rows).await?);
            // A segment that cannot be read is told where segments are compared.
            if counted_anew(snapshot, hour, &fields, &mut counted).await? {
                differences.extend(checks::host_totals(hour, &rows, counted.take().iter()));
            }
        }
    }
    let large = match skipped {
        0 => String::new(),
        count => format!("; {count} have too many totals and were left out"),
    };
    let told = format!(
        "{compared} of {sealed} sealed hours counted anew; {others} are open, were counted otherwise or have lost flows{large}"
    );
    let hours = match compared {
        0 => Finding::not_applicable(CHECK, told),
        _ => Finding::of(CHECK, told, differences),
    };
    Ok([hours, checks::summed_days(&snapshot.summed_days().await?)])
}

/// What is packed of the period against its rows: the difference, if there is one.
async fn packed(
    snapshot: &mut Snapshot,
    period: Period,
    rows: &[(HostTrafficKey, HostTraffic)],
) -> Result<Option<String>, Box<dyn Error>> {
    let (stretch, from, time) = match period {
        Period::Hour(hour) => (Stretch { hours: vec![hour], ..Stretch::default() }, hour, HOUR),
        Period::Day(day) => (Stretch { days: vec![day], ..Stretch::default() }, day, DAY),
    };
    let blocks = snapshot.packed(&stretch).await?;
    let Some((_, block)) = blocks.first() else { return Ok(None) };
    let (mut held, mut rows) = (Vec::with_capacity(rows.len()), rows.to_vec());
    let damage = unpack_totals(block, |key, traffic| held.push((key, traffic))).err();
    rows.sort_unstable_by_key(|(key, _)| *key);
    let what = match damage {
        Some(damage) => damage.to_string(),
        None if held != rows => "its packed totals are not those of its rows".to_owned(),
        None => return Ok(None),
    };
    Ok(Some(format!("{from}: {what}; {}", checks::count_again(from, time))))
}

/// Adds all flows of the hour to `totals`; false when not all can be read.
async fn counted_anew(
    snapshot: &mut Snapshot,
    hour: Timestamp,
    fields: &[Field],
    totals: &mut Totals,
) -> Result<bool, Box<dyn Error>> {
    let headers = snapshot.segments(hour, hour.plus(HOUR)).await?;
    let (mut decoder, mut batch) = (Decoder::default(), FlowBatch::default());
    for header in &headers {
        for segment in snapshot.load(std::slice::from_ref(header), fields).await? {
            let rows = segment.rows as usize;
            batch.clear();
            batch.add_rows(rows);
            for (field, block) in &segment.columns {
                if decoder.decode_into(*field, block, rows, batch.column_mut(*field)).is_err() {
                    return Ok(false);
                }
            }
            totals.add(&batch);
        }
    }
    Ok(true)
}
