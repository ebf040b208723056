//! Which questions host totals answer just as a scan of all flows does.
//!
//! Totals know local hosts, which way their flows went, and by which exporter they came. So they answer what a local host
//! transferred, and the top of destinations (or sources) among flows to (or from) networks that are local, also of some
//! exporters only. Every other question reads segments.

use super::QueryError;
use super::answer::{Counters, HostRequest, TopRequest};
use super::budget::Budget;
use super::host::HostScan;
use super::scan::{Scan, TopScan};
use crate::columns::unpack_totals;
use crate::filter::{Comparison, Expression, NumberTest};
use crate::flow::fields::{Dimension, Field};
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey, TrafficDirection};
use crate::flow::local::Local;
use crate::store::host_traffic::{HostSums, Hosts, Stretch};
use crate::store::packed::Period;
use crate::store::snapshot::Snapshot;
use ipnetwork::IpNetwork;
use std::sync::Arc;

/// A question that totals answer.
pub(super) trait Question<S: Scan> {
    /// Adds the totals of the stretch to what `scan` found, within the budget. False when one of them is as large as the
    /// database can keep: then only flows tell the truth.
    async fn add_totals(
        &self,
        scan: &mut S,
        snapshot: &mut Snapshot,
        stretch: &Stretch,
        budget: &Budget,
    ) -> Result<bool, QueryError>;
}

impl Question<TopScan> for Hosts {
    async fn add_totals(
        &self,
        scan: &mut TopScan,
        snapshot: &mut Snapshot,
        stretch: &Stretch,
        budget: &Budget,
    ) -> Result<bool, QueryError> {
        let mut whole = true;
        let mut take = |sums: &HostSums| {
            let before = scan.memory();
            whole &= !sums.is_cut();
            scan.add_host(sums);
            budget.spend(before, scan.memory())
        };
        let wanted = Wanted::new(self);
        // What is not packed is summed by the database.
        let mut rest = stretch.clone();
        for part in parts(stretch) {
            for (period, block) in snapshot.packed(&part).await? {
                let Some(found) = wanted.unpacked(period, block).await else { continue };
                let held = found.len().saturating_mul(size_of::<HostSums>());
                budget.spend(0, held)?;
                found.iter().try_for_each(&mut take)?;
                budget.spend(held, 0)?;
                match period {
                    Period::Day(day) => rest.days.retain(|other| *other != day),
                    Period::Hour(hour) => rest.hours.retain(|other| *other != hour),
                }
            }
        }
        if !rest.is_empty() {
            snapshot.totals_by_host(&rest, self, take).await?;
        }
        Ok(whole)
    }
}

impl Question<HostScan> for HostRequest {
    async fn add_totals(
        &self,
        scan: &mut HostScan,
        snapshot: &mut Snapshot,
        stretch: &Stretch,
        budget: &Budget,
    ) -> Result<bool, QueryError> {
        let raw = self.counters == Counters::Raw;
        let found = snapshot.totals_of_host(stretch, self.host.to_canonical(), raw).await?;
        budget.spend(0, 0)?;
        found.iter().for_each(|(direction, sums)| scan.add_totals(*direction, sums));
        Ok(!found.iter().any(|(_, sums)| sums.is_cut()))
    }
}

/// How many blocks are loaded at a time.
const BLOCKS: usize = 16;

/// The stretch in parts of a bounded size.
fn parts(stretch: &Stretch) -> impl Iterator<Item = Stretch> + use<> {
    let days = stretch.days.chunks(BLOCKS).map(|days| Stretch { days: days.to_vec(), hours: Vec::new() });
    let hours = stretch.hours.chunks(BLOCKS).map(|hours| Stretch { days: Vec::new(), hours: hours.to_vec() });
    days.chain(hours).collect::<Vec<_>>().into_iter()
}

/// Which rows of a block are asked for: the same choice as that of the database.
#[derive(Clone)]
struct Wanted {
    hosts: Hosts,
    networks: Arc<Local>,
}

impl Wanted {
    fn new(hosts: &Hosts) -> Self {
        Self { hosts: hosts.clone(), networks: Arc::new(Local::new(&hosts.networks)) }
    }

    /// Its rows in the block; `None` when the block cannot be read, and the rows it was made of have to be.
    async fn unpacked(&self, period: Period, block: Vec<u8>) -> Option<Vec<HostSums>> {
        let wanted = self.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            unpack_totals(&block, |key, traffic| found.extend(wanted.sums(key, &traffic))).map(|()| found)
        });
        match unpacked.await.ok()? {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(
                    "{period:?} is summed row by row: {error}; totals = NULL in its row lets it be packed again"
                );
                None
            }
        }
    }

    fn sums(&self, key: HostTrafficKey, traffic: &HostTraffic) -> Option<HostSums> {
        use TrafficDirection::{Download, InternalReceived, InternalSelf, InternalSent, Upload};
        let way = match key.direction {
            Upload | InternalSent => self.hosts.sent,
            Download | InternalReceived => !self.hosts.sent,
            InternalSelf => true,
        };
        let inside = self.networks.contains(key.host);
        let told = self.hosts.exporters.as_ref().is_none_or(|exporters| exporters.contains(&key.exporter_id));
        (way && inside && told).then(|| HostSums {
            host: key.host,
            totals: traffic.totals(self.hosts.raw),
            records: traffic.records,
            sampled_flows: traffic.sampled_flows,
            first_seen: traffic.first_seen,
            last_seen: traffic.last_seen,
        })
    }
}

/// The hosts whose totals answer `request`; `None` when they cannot.
pub(super) fn hosts(request: &TopRequest, local: &Local) -> Option<Hosts> {
    let side = match request.by.as_slice() {
        [side @ Dimension::One(Field::DstIp | Field::SrcIp)] => *side,
        _ => return None,
    };
    let parts = match request.filter.as_ref()? {
        Expression::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let (mut networks, mut exporters) = (None, None);
    for part in parts {
        // Two conditions of one kind would have to be intersected; nobody asks so.
        if let Some(found) = networks_of(part, side) {
            if networks.replace(found).is_some() {
                return None;
            }
        } else if exporters.replace(exporters_of(part)?).is_some() {
            return None;
        }
    }
    let networks: Vec<IpNetwork> = networks?;
    if !networks.iter().all(|network| local.covers(network)) {
        return None;
    }
    Some(Hosts {
        sent: side == Dimension::One(Field::SrcIp),
        networks,
        exporters,
        raw: request.counters == Counters::Raw,
    })
}

/// The networks that `part` asks of `side`, when it asks for nothing else.
fn networks_of(part: &Expression, side: Dimension) -> Option<Vec<IpNetwork>> {
    match part {
        Expression::Address { of, networks } if *of == side => Some(networks.clone()),
        Expression::Or(parts) => {
            parts.iter().map(|part| networks_of(part, side)).collect::<Option<Vec<_>>>().map(|lists| lists.concat())
        }
        _ => None,
    }
}

/// The exporters that `part` asks for, when it asks for nothing else.
fn exporters_of(part: &Expression) -> Option<Vec<u32>> {
    let Expression::Number { of: Dimension::One(Field::ExporterId), test } = part else { return None };
    let numbers = match test {
        NumberTest::Compare(Comparison::Equal, number) => std::slice::from_ref(number),
        NumberTest::In(numbers) => numbers,
        NumberTest::Compare(..) => return None,
    };
    numbers.iter().map(|number| u32::try_from(*number).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::query::{Order, Window};

    fn asked(by: &str, filter: &str) -> Option<Hosts> {
        let local = ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"].map(|text| text.parse().unwrap());
        let at = Timestamp::from_micros(0);
        let request = TopRequest {
            window: Window { from: at, to: at, zone: chrono_tz::Tz::UTC },
            by: by.split(',').map(|name| Dimension::parse(name).unwrap()).collect(),
            order: Order::Bytes,
            limit: 10,
            filter: (!filter.is_empty()).then(|| crate::filter::parse(filter).unwrap()),
            counters: Counters::Raw,
        };
        hosts(&request, &Local::new(&local))
    }

    #[test]
    fn destinations_in_local_networks_and_sources_in_them_are_answered_by_totals() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let all = "dst net 10.0.0.0/8 or dst net 192.168.0.0/16 or dst net fc00::/7";
        for (by, filter, sent, expected, exporters) in [
            ("dst_ip", "dst net 10.1.0.0/16", false, networks(&["10.1.0.0/16"]), None),
            ("dst_ip", "dst ip 10.1.2.3", false, networks(&["10.1.2.3/32"]), None),
            ("dst_ip", "dst net 10.1.2.3/30", false, networks(&["10.1.2.0/30"]), None),
            ("src_ip", "src ip in [10.1.0.0/16 fd00::/8]", true, networks(&["10.1.0.0/16", "fd00::/8"]), None),
            ("dst_ip", "dst net 10.0.0.0/9 or dst ip fd00::1", false, networks(&["10.0.0.0/9", "fd00::1/128"]), None),
            ("dst_ip", all, false, networks(&["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"]), None),
            ("dst_ip", "dst net 10.0.0.0/9 and exporter_id 3", false, networks(&["10.0.0.0/9"]), Some(vec![3])),
            ("src_ip", "exporter_id in [3 4] and src ip 10.0.0.1", true, networks(&["10.0.0.1/32"]), Some(vec![3, 4])),
        ] {
            let expected = Hosts { sent, networks: expected, exporters, raw: true };
            assert_eq!(asked(by, filter), Some(expected), "{by} {filter}");
        }
    }

    #[test]
    fn all_other_questions_are_not() {
        for (by, filter) in [
            ("dst_ip", ""),
            ("dst_ip", "any"),
            ("dst_ip", "dst net 0.0.0.0/0"),
            ("dst_ip", "dst net 10.0.0.0/7"),
            ("dst_ip", "dst net ::/0"),
            ("dst_ip", "dst ip in [10.0.0.0/8 203.0.113.0/24]"),
            ("dst_ip", "not dst net 10.0.0.0/8"),
            ("dst_ip", "src net 10.0.0.0/8"),
            ("src_ip", "dst net 10.0.0.0/8"),
            ("ip", "ip 10.0.0.1"),
            ("dst_ip", "ip 10.0.0.1"),
            ("dst_ip,src_ip", "dst net 10.0.0.0/8"),
            ("dst_port", "dst net 10.0.0.0/8"),
            ("dst_ip", "dst net 10.0.0.0/8 and proto tcp"),
            ("dst_ip", "dst net 10.0.0.0/8 and dst net 10.1.0.0/16"),
            ("dst_ip", "dst net 10.0.0.0/8 or proto tcp"),
            ("dst_ip", "dst net 10.0.0.0/8 and exporter_id > 3"),
            ("dst_ip", "dst net 10.0.0.0/8 and exporter_id 3 and exporter_id 4"),
            ("dst_ip", "exporter_id 3"),
        ] {
            assert_eq!(asked(by, filter), None, "{by} {filter}");
        }
    }
}
