//! The datagrams a simulated site sends, one after the other, and what they add up to.
//!
//! A pool of datagrams is written once from a seed and then sent round and round, each time newly stamped, so that one
//! thread makes millions of flows a second. The totals are exact: they follow from how often each datagram was taken.

use super::format::{Protocol, Stamp, data, stamp, template};
use super::traffic::{Flow, Traffic};
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// How many datagrams are written ahead.
const POOL: usize = 4_096;
/// How long the exporters have been up when the stream begins, in milliseconds.
const UPTIME: i64 = 3_600_000;

/// What is to be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The format.
    pub protocol: Protocol,
    /// The same seed gives the same flows.
    pub seed: u64,
    /// Local hosts.
    pub hosts: u32,
    /// Exporters, which send in turn. Each has its own sequence numbers and source id.
    pub exporters: u32,
    /// How many flows are sent in all; `None` is without end.
    pub count: Option<u64>,
    /// After how many datagrams of an exporter its template is sent again; 0 sends it once.
    pub template_every: u32,
    /// sFlow: out of how many packets one is sampled, 1 or more. Other formats tell of none.
    pub sampling_interval: u32,
}

#[derive(Debug)]
struct Pooled {
    bytes: Vec<u8>,
    flows: Vec<Flow>,
    taken: u64,
}

#[derive(Clone, Debug, Default)]
struct Exporter {
    sequence: u32,
    flows: u32,
    until_template: u32,
}

/// One datagram to send.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Which exporter sends it, from 0.
    pub exporter: usize,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How many flows it holds; none when it holds a template.
    pub flows: usize,
}

/// What a local host received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// The host.
    pub host: Ipv4Addr,
    /// Bytes received.
    pub bytes: u64,
    /// Packets received.
    pub packets: u64,
    /// Flows received.
    pub flows: u64,
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams, those of templates included.
    pub datagrams: u64,
    /// Datagrams of templates.
    pub templates: u64,
    /// Flows.
    pub flows: u64,
    /// Packets of all flows, in sFlow those sampled.
    pub packets: u64,
    /// Bytes of all flows, in sFlow of the packets sampled.
    pub bytes: u64,
    /// What each local host received, the most bytes first, then by address.
    pub downloads: Vec<Download>,
}

/// An endless or bounded stream of datagrams.
#[derive(Debug)]
pub struct Stream {
    plan: Plan,
    pool: Vec<Pooled>,
    template: Vec<u8>,
    exporters: Vec<Exporter>,
    next: u64,
    began: Option<Timestamp>,
    datagrams: u64,
    templates: u64,
    flows: u64,
    /// The last datagram of a bounded stream, when it is not full.
    last: Option<Pooled>,
}

impl Stream {
    /// Writes the pool for `plan`.
    pub fn new(plan: Plan) -> Self {
        let mut traffic = Traffic::new(plan.seed, plan.hosts);
        let each = plan.protocol.flows_per_datagram();
        let wanted = plan.count.map_or(u64::MAX, |count| count.div_ceil(each as u64));
        let pool = (0..wanted.clamp(1, POOL as u64)).map(|_| {
            let flow = |flow: Flow| if plan.protocol == Protocol::Sflow { flow.packet() } else { flow };
            let flows: Vec<_> = (0..each).map(|_| flow(traffic.flow())).collect();
            Pooled { bytes: data(plan.protocol, &flows), flows, taken: 0 }
        });
        Self {
            plan,
            pool: pool.collect(),
            template: if plan.protocol.has_templates() { template(plan.protocol) } else { Vec::new() },
            exporters: vec![Exporter::default(); plan.exporters.max(1) as usize],
            next: 0,
            began: None,
            datagrams: 0,
            templates: 0,
            flows: 0,
            last: None,
        }
    }

    /// The next datagram as it is sent at `now`; `None` when all flows are sent.
    pub fn next(&mut self, now: Timestamp) -> Option<Datagram<'_>> {
        let protocol = self.plan.protocol;
        let left = self.plan.count.map_or(u64::MAX, |count| count - self.flows);
        if left == 0 {
            return None;
        }
        let began = *self.began.get_or_insert(now);
        let uptime = ((now.micros() - began.micros()) / 1_000 + UPTIME) as u32;
        let number = (self.next % self.exporters.len() as u64) as usize;
        let exporter = self.exporters.get_mut(number)?;
        let with = Stamp {
            sequence: exporter.sequence,
            source: number as u32 + 1,
            flows: exporter.flows,
            sampling_interval: self.plan.sampling_interval,
            now,
            uptime,
        };
        self.datagrams += 1;
        if protocol.has_templates() && exporter.until_template == 0 {
            let every = self.plan.template_every;
            exporter.until_template = if every == 0 { u32::MAX } else { every };
            exporter.sequence = exporter.sequence.wrapping_add(u32::from(protocol == Protocol::V9));
            self.templates += 1;
            stamp(protocol, &mut self.template, &[], with);
            return Some(Datagram { exporter: number, bytes: &self.template, flows: 0 });
        }
        exporter.until_template = exporter.until_template.saturating_sub(1);
        let position = (self.next % self.pool.len() as u64) as usize;
        self.next += 1;
        let pooled = self.pool.get_mut(position)?;
        let pooled = if (pooled.flows.len() as u64) <= left {
            pooled
        } else {
            let flows = pooled.flows.get(..left as usize).unwrap_or_default().to_vec();
            self.last.insert(Pooled { bytes: data(protocol, &flows), flows, taken: 0 })
        };
        let flows = pooled.flows.len();
        pooled.taken += 1;
        self.flows += flows as u64;
        exporter.flows = exporter.flows.wrapping_add(flows as u32);
        exporter.sequence = exporter.sequence.wrapping_add(protocol.sequence_step(flows));
        stamp(protocol, &mut pooled.bytes, &pooled.flows, with);
        Some(Datagram { exporter: number, bytes: &pooled.bytes, flows })
    }

    /// What has been sent so far.
    pub fn totals(&self) -> Totals {
        let (datagrams, templates) = (self.datagrams, self.templates);
        let mut totals = Totals { datagrams, templates, ..Totals::default() };
        let mut hosts = HashMap::<Ipv4Addr, Download>::new();
        for pooled in self.pool.iter().chain(&self.last) {
            for flow in &pooled.flows {
                let (bytes, packets) = (u64::from(flow.bytes) * pooled.taken, u64::from(flow.packets) * pooled.taken);
                totals.flows += pooled.taken;
                totals.packets += packets;
                totals.bytes += bytes;
                if flow.to_local && pooled.taken > 0 {
                    let empty = Download { host: flow.destination, bytes: 0, packets: 0, flows: 0 };
                    let host = hosts.entry(flow.destination).or_insert(empty);
                    host.bytes += bytes;
                    host.packets += packets;
                    host.flows += pooled.taken;
                }
            }
        }
        totals.downloads = hosts.into_values().collect();
        totals.downloads.sort_unstable_by(|a, b| b.bytes.cmp(&a.bytes).then(a.host.cmp(&b.host)));
        totals
    }
}
