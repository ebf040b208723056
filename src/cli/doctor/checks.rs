//! What must hold, as comparisons of figures that others have gathered. Nothing here does I/O.

use super::finding::Finding;
use crate::clock::{DAY, HOUR, SECOND, Timestamp};
use crate::flow::counting::FlowDirection;
use crate::flow::double_counting::{Side, Summary};
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use crate::flow::segment::{Segment, Totals};
use crate::flow::value::address_from_wide;
use crate::journal::survey::{Survey, SurveyedFile};
use crate::keep::partitions::{due, oldest_kept};
use crate::store::audit::{StoredJournal, Sums};
use crate::store::hours::CountedOtherwise;
use crate::store::partitions::DailyTable;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// How far clocks may differ.
const CLOCKS: i64 = 5 * SECOND;
/// Bytes by which a file may begin after the one before it: one that could not be written gives its position up.
const GIVEN_UP: u64 = 1;
/// How far the database may be ahead of the journal's end: a process that receives nothing and has to tell for how long nobody
/// received lets the position go on by one, into what the next opening leaves free.
const RESTARTS: u64 = 65_536;

/// A UTC day as people write it.
fn date(day: Timestamp) -> String {
    day.to_utc().format("%F").to_string()
}

/// Settings and tables that can lose what was confirmed.
pub(super) fn durability(risks: Vec<String>) -> Finding {
    Finding::of("durability", "fsync, full_page_writes and synchronous_commit are on, no table is UNLOGGED", risks)
}

/// The local clock before and after the database's was read, and the latest moment up to which anything is stored.
pub(super) fn clocks(before: Timestamp, database: Timestamp, after: Timestamp, until: Option<Timestamp>) -> Finding {
    let mut differences = Vec::new();
    let early = before.micros().saturating_sub(database.micros());
    let late = database.micros().saturating_sub(after.micros());
    if early.max(late) > CLOCKS {
        let seconds = early.max(late) / SECOND;
        let which = if late > early { "ahead of" } else { "behind" };
        differences.push(format!("the database's clock is {seconds} s {which} ours; keep both by NTP"));
    }
    if let Some(until) = until.filter(|until| *until > after.plus(CLOCKS)) {
        differences.push(format!("flows are stored up to {until}, which is still to come: the clock was ahead"));
    }
    Finding::of("clocks", "ours and the database's agree within 5 s", differences)
}

/// The days of a table against what is to be kept of it. Upkeep comes every few minutes, so a day of grace is given.
pub(super) fn days(
    table: DailyTable,
    present: &[Timestamp],
    now: Timestamp,
    newest: Option<Timestamp>,
    keep_days: u32,
) -> Finding {
    let check = match table {
        DailyTable::Flows => "days of flows",
        DailyTable::FlowSegments => "days of flow_segments",
    };
    let soon = now.plus(DAY);
    let missing = due(present, now, newest, keep_days).make.into_iter().filter(|day| *day <= soon);
    let mut differences: Vec<_> = missing.map(|day| format!("no partition for {}", date(day))).collect();
    let oldest = oldest_kept(now, newest, keep_days).plus(-DAY);
    let over = present.iter().filter(|day| **day < oldest);
    differences.extend(over.map(|day| format!("{} is older than {keep_days} days and still there", date(*day))));
    Finding::of(check, format!("{} days, made ahead, kept {keep_days} days", present.len()), differences)
}

/// Rows of `flows` against segments, by day. Where a segment keeps less than it holds, rows may sum up to more.
pub(super) fn rows_and_segments(sums: &[(Timestamp, Sums, Sums)]) -> Finding {
    let check = "flows = segments";
    if sums.is_empty() {
        return Finding::not_applicable(check, "no chosen day has both rows and segments");
    }
    let mut differences = Vec::new();
    for (day, rows, segments) in sums {
        for (what, of_rows, of_segments, cut) in [
            ("records", rows.rows, segments.rows, false),
            ("bytes", rows.bytes, segments.bytes, segments.cut),
            ("packets", rows.packets, segments.packets, segments.cut),
            ("flows", rows.flows, segments.flows, segments.cut),
        ] {
            if of_rows < of_segments || of_rows > of_segments && !cut {
                let day = date(*day);
                differences
                    .push(format!("{day}: the table flows has {of_rows} {what}, the segments have {of_segments}"));
            }
        }
    }
    let records: u128 = sums.iter().map(|(_, rows, _)| rows.rows).fold(0, u128::saturating_add);
    Finding::of(check, format!("{} days, {records} records: counts and sums are equal", sums.len()), differences)
}

/// The host totals of an hour against its flows, counted anew: the difference, if there is one.
pub(super) fn host_totals<'a>(
    hour: Timestamp,
    stored: &[(HostTrafficKey, HostTraffic)],
    counted: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
) -> Option<String> {
    let stored: BTreeMap<_, _> = stored.iter().map(|(key, traffic)| (*key, *traffic)).collect();
    let counted: BTreeMap<_, _> =
        counted.map(|(key, traffic)| (*key, traffic.at_most(i64::MAX.unsigned_abs()))).collect();
    let keys: BTreeSet<_> = stored.keys().chain(counted.keys()).collect();
    let differing: Vec<_> = keys.into_iter().filter(|key| stored.get(key) != counted.get(key)).collect();
    let first = differing.first()?;
    let bytes = |sums: &BTreeMap<HostTrafficKey, HostTraffic>| match sums.get(first) {
        Some(traffic) => format!("{} bytes in {} records", traffic.bytes, traffic.records),
        None => "nothing".to_owned(),
    };
    Some(format!(
        "{hour}: {} of {} totals differ, such as {} of {} by exporter {}: stored are {}, its flows are {}; {}",
        differing.len(),
        counted.len(),
        first.direction.name(),
        address_from_wide(first.host),
        first.exporter_id,
        bytes(&stored),
        bytes(&counted),
        count_again(hour, HOUR)
    ))
}

/// Days with valid totals, and how many of these are not the sums of their hours.
pub(super) fn summed_days(days: &[(Timestamp, u64)]) -> Finding {
    let check = "days = hours";
    if days.is_empty() {
        return Finding::not_applicable(check, "no day is added up");
    }
    let differing = days.iter().filter(|(_, differing)| *differing > 0);
    let told = |(day, differing): &(Timestamp, u64)| {
        format!("{}: {differing} totals are not those of its hours; {}", date(*day), count_again(*day, DAY))
    };
    let compared = format!("{} days: the totals of each host are the sums of those by hour", days.len());
    Finding::of(check, compared, differing.map(told).collect())
}

/// The command that mends totals of the time from `from` on.
pub(super) fn count_again(from: Timestamp, time: i64) -> String {
    let written = |moment: Timestamp| moment.to_utc().format("%FT%TZ");
    format!("flowledger rebuild-totals --again --from {} --to {}", written(from), written(from.plus(time)))
}

/// A segment against what its columns hold: the difference, if there is one.
pub(super) fn segment(id: i64, stored: &Segment, decoded: &Totals, times: Option<(i64, i64)>) -> Option<String> {
    let kept = |sum: u64| sum.min(i64::MAX.unsigned_abs());
    let of = |totals: &Totals| [totals.bytes, totals.packets, totals.flows].map(kept);
    let (told, held) = (of(&stored.totals), of(decoded));
    if told != held {
        return Some(format!(
            "segment {id}: it tells {} bytes, {} packets and {} flows, its columns hold {}, {} and {}",
            told[0], told[1], told[2], held[0], held[1], held[2]
        ));
    }
    let bounds = (stored.received_first.micros(), stored.received_last.micros());
    (times != Some(bounds)).then(|| {
        format!("segment {id}: its flows were not received from {} to {}", stored.received_first, stored.received_last)
    })
}

/// Ids that several segments have, and those that no journal has given out.
pub(super) fn segment_ids(repeated: &[i64], of_nobody: &[i64]) -> Finding {
    let mut differences: Vec<_> = repeated.iter().map(|id| format!("segment {id} is there more than once")).collect();
    differences.extend(of_nobody.iter().map(|id| format!("segment {id} was given out by no journal")));
    Finding::of("segment ids", "each once, each given out by a journal", differences)
}

/// Records that exporters sent, ever, against those in segments, where no day was dropped yet.
pub(super) fn records(sent: u64, stored: u64, began: Option<Timestamp>, oldest_day: Option<Timestamp>) -> Finding {
    let check = "exporters = segments";
    match (began, oldest_day) {
        (None, _) | (_, None) => Finding::not_applicable(check, "nothing was ever recorded"),
        (Some(began), Some(oldest)) if oldest > began.day() => {
            Finding::not_applicable(check, format!("days before {} were dropped after their time", date(oldest)))
        }
        _ => {
            let differs = (sent != stored).then(|| format!("{sent} records were decoded, the segments hold {stored}"));
            Finding::of(check, format!("{stored} records were decoded and are there"), differs.into_iter().collect())
        }
    }
}

/// Hours whose totals were counted by other networks or rules, and can still be counted by the present ones.
pub(super) fn counted_by(otherwise: Option<&CountedOtherwise>) -> Finding {
    let told = otherwise.map(|otherwise| {
        let (told, remedy) = (otherwise.told(), otherwise.remedy());
        format!("{told}: answers read their flows, and when these go the totals stay so; run in time: {remedy}")
    });
    let looked_at = "by [network] local and the rules of counting as they are, in all hours with flows";
    Finding::warning("totals counted", looked_at, told.into_iter().collect())
}

/// Flows that two observation points told alike, in so many hours sealed lately by the present networks and rules, and the
/// setting that would end it.
pub(super) fn double_counting(found: &[Summary], hours: u64) -> Finding {
    let check = "double counting";
    if hours == 0 {
        let none = "no hour of the last 24 h was sealed yet by [network] local and the rules of counting as they are";
        return Finding::not_applicable(check, none);
    }
    let shown = |address: &IpAddr, side: &Side| match side.direction.map(FlowDirection::name) {
        Some(direction) => format!("{address} ({direction})"),
        None => address.to_string(),
    };
    let told = |pair: &Summary| {
        let [one, other] = &pair.sides;
        let [address, other_address] = &pair.addresses;
        let between = if one == other {
            format!("two interfaces or domains of {}", shown(address, one))
        } else {
            format!("{} and {}", shown(address, one), shown(other_address, other))
        };
        let example = pair.examples.first().map(|flow| {
            let (source, destination) =
                (SocketAddr::new(flow.src_ip, flow.src_port), SocketAddr::new(flow.dst_ip, flow.dst_port));
            format!(", such as {source} to {destination}, protocol {}, {} bytes", flow.protocol, flow.bytes)
        });
        let advice = match &pair.proposal {
            Some((exporter, setting)) => format!("set {setting} below [[exporter]] address = \"{exporter}\""),
            None => "no setting separates them: change what they export".to_owned(),
        };
        format!(
            "{between} tell the same flows: {} % of those compared, about {} bytes twice in {} h{}; {advice}",
            pair.percent(),
            pair.double_bytes,
            pair.hours,
            example.unwrap_or_default()
        )
    };
    let looked_at = format!("no two observation points tell the same flows in {hours} hours sealed of the last 24 h");
    Finding::warning(check, looked_at, found.iter().map(told).collect())
}

/// What the database knows of a journal, if it has stored anything of it.
pub(super) fn stored_of<'a>(survey: &Survey, stored: &'a [StoredJournal]) -> Option<&'a StoredJournal> {
    let id = survey.id.to_string();
    stored.iter().find(|journal| journal.id == id)
}

/// The journal's files, looked at before and after the database was, against the position up to which it is stored.
pub(super) fn journal(before: &Survey, stored: &[StoredJournal], after: &Survey) -> Finding {
    let check = "journal";
    let id = before.id;
    let Some(known) = stored_of(before, stored) else {
        let differs = stored.first().map(|other| {
            format!("the database knows no journal {id}, but {}; was the journal's directory replaced?", other.id)
        });
        let none = format!("journal {id} has stored nothing yet");
        return match differs {
            Some(difference) => Finding::of(check, none, vec![difference]),
            None => Finding::not_applicable(check, none),
        };
    };
    let position = known.position;
    let (Some(first), Some(last)) = (before.files.first(), after.files.last()) else {
        let lost = (position > 0).then(|| "no file of the journal is left; the newest is never deleted".to_owned());
        return Finding::of(check, "nothing was received yet", lost.into_iter().collect());
    };
    let mut differences = Vec::new();
    if position > last.end.get().saturating_add(RESTARTS) {
        differences.push(format!(
            "the database stores up to position {position}, but the journal ends at {}: its end is missing",
            last.end.get()
        ));
    }
    // An opening leaves a gap, behind which everything before may have been stored and deleted.
    let reach = first.told.filter(|told| told.first).map_or(0, |told| told.gap);
    if position < first.start.get().saturating_sub(reach) {
        differences.push(format!(
            "the database stores up to position {position}, but the journal begins at {}: what is between is missing",
            first.start.get()
        ));
    }
    for pair in before.files.windows(2) {
        let [one, next] = pair else { continue };
        if let Some(missing) = missing_between(one, next).filter(|_| next.start.get() > position) {
            differences
                .push(format!("{missing} bytes of the journal before position {} are missing", next.start.get()));
        }
    }
    let backlog: u64 = after.files.iter().map(|file| waiting(file, position)).fold(0, u64::saturating_add);
    let files = after.files.len();
    Finding::of(check, format!("{files} files, {backlog} bytes not stored yet; the position lies within"), differences)
}

/// Bytes of a file behind `position`.
fn waiting(file: &SurveyedFile, position: u64) -> u64 {
    file.end.get().saturating_sub(file.start.get().max(position))
}

/// How many bytes lack between two files of one opening.
fn missing_between(one: &SurveyedFile, next: &SurveyedFile) -> Option<u64> {
    let (one_told, next_told) = (one.told?, next.told?);
    let missing = next.start.get().saturating_sub(one.end.get());
    (one_told.run == next_told.run && missing > GIVEN_UP).then_some(missing)
}

/// Two figures that must be equal whenever nothing is under way, read several times.
pub(super) fn identity(check: &'static str, what: &str, samples: &[(i128, i128)]) -> Finding {
    let differences: Vec<_> = samples.iter().map(|(left, right)| left.saturating_sub(*right)).collect();
    let Some(last) = samples.last() else {
        return Finding::not_applicable(check, "the server does not tell, or is not at rest, or began anew");
    };
    if differences.contains(&0) {
        return Finding::of(check, format!("{what}: {} = {}", last.0, last.0), Vec::new());
    }
    match (differences.iter().min(), differences.iter().max()) {
        (Some(low), Some(high)) if low == high => {
            let stands = format!("{what}: {} against {}, a difference of {low} that stays", last.0, last.1);
            Finding::of(check, "", vec![stands])
        }
        (low, high) => {
            let between = format!("from {} to {}", low.unwrap_or(&0), high.unwrap_or(&0));
            Finding::not_applicable(check, format!("too much is under way to compare: differences {between}"))
        }
    }
}

/// What the server says of itself.
pub(super) fn accounting(error: Option<i128>) -> Finding {
    let check = "server's self-check";
    match error {
        None => Finding::not_applicable(check, "the server does not tell"),
        Some(error) => {
            let differs = (error != 0).then(|| format!("{error} datagrams were neither decoded nor refused"));
            Finding::of(check, "every datagram was decoded or refused", differs.into_iter().collect())
        }
    }
}

/// The receive buffers that the kernel granted, by listener, against what is wanted.
pub(super) fn buffers(granted: &[(String, i128)], wanted: usize) -> Finding {
    let check = "receive buffers";
    if granted.is_empty() {
        return Finding::not_applicable(check, "no listener has one");
    }
    let small = granted.iter().filter(|(_, bytes)| *bytes < wanted as i128);
    let told = |(listener, bytes): &(String, i128)| {
        format!(
            "{listener}: {bytes} bytes, not {wanted}; sysctl -w net.core.rmem_max={wanted}, then restart the server"
        )
    };
    Finding::of(check, format!("{wanted} bytes as wanted"), small.map(told).collect())
}

/// How old what the database knows of a running collector may be.
pub(super) fn freshness(server: bool, until: Option<Timestamp>, now: Timestamp) -> Finding {
    let check = "stored up to";
    let Some(until) = until else { return Finding::not_applicable(check, "nothing was ever recorded") };
    let behind = now.micros().saturating_sub(until.micros());
    let differs = (server && behind > HOUR)
        .then(|| format!("{until}, {} s ago: the server runs but does not store; look into its log", behind / SECOND));
    Finding::of(check, format!("{until}, {} s ago", behind / SECOND), differs.into_iter().collect())
}
