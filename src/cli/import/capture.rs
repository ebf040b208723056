//! A capture: its datagrams go through the decoder, at the moments at which they were captured.
//!
//! Each file has a decoder of its own, and an import that goes on reads the file from its beginning, so that the same file
//! always becomes the same flows. Data that comes before its template waits to the end of the file if it must. What exporters
//! tell about themselves is left out: it may be older than what is known.

use super::reading::{FileError, NETWORK, Part, Reading, ReadingError};
use crate::archive::capture::{Capture, Datagram, Step};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::record::FlowRecord;
use crate::store::imports::ImportStanding;
use crate::wire::{
    ConfiguredSampling, Context, Decoder, Limits, Outcome, Reason, Transport, Unit, exporter_address, recognise,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

/// The ports to which flows are usually sent: NetFlow, IPFIX, sFlow.
const PORTS: [u16; 10] = [2_055, 2_056, 4_432, 4_729, 4_739, 6_343, 9_555, 9_995, 9_996, 9_997];
/// Memory for data that waits for its template.
const PARKED: usize = 64 << 20;
/// The most ports that are named.
const NAMED: usize = 5;

/// A datagram out of the capture.
struct Taken {
    received: Timestamp,
    source: SocketAddr,
    payload: Vec<u8>,
}

/// A file that is being decoded.
struct Decoding {
    decoder: Decoder,
    scratch: FlowBatch,
    /// Whether what is decoded now was stored before.
    stored: bool,
    /// Datagrams to other ports that look like flows, by port.
    others: BTreeMap<u16, u64>,
}

impl Reading {
    pub(super) fn capture(&mut self, path: &Path, standing: &ImportStanding) -> Result<(), FileError> {
        let mut capture = Capture::open(File::open(path)?)?;
        let limits = Limits {
            parked_bytes: PARKED,
            parked_bytes_per_exporter: PARKED,
            parked_seconds: u32::MAX,
            ..Limits::default()
        };
        let (decoder, scratch) = (Decoder::new(limits), FlowBatch::default());
        let mut decoding = Decoding { decoder, scratch, stored: false, others: BTreeMap::new() };
        let mut part = Part::new(standing);
        loop {
            let mut taken = None;
            let ports: &[u16] = if self.ports.is_empty() { &PORTS } else { &self.ports };
            let others = &mut decoding.others;
            let step = capture.step(|datagram: Datagram<'_>| {
                let Datagram { received, source, destination, payload } = datagram;
                if ports.contains(&destination.port()) {
                    taken = Some(Taken { received, source, payload: payload.to_vec() });
                } else if recognise(payload).is_ok() {
                    let sum = others.entry(destination.port()).or_default();
                    *sum = sum.saturating_add(1);
                }
            });
            let end = capture.offset();
            decoding.stored = end <= standing.position;
            if let Some(taken) = taken {
                self.datagram(&mut part, &mut decoding, &taken)?;
            }
            match step {
                Step::Read if decoding.stored => {}
                Step::Read => self.advance(&mut part, end)?,
                Step::End(damage) => {
                    damage.into_iter().for_each(|damage| part.damaged(damage));
                    break;
                }
            }
        }
        decoding.stored = false;
        self.expire(&mut part, &mut decoding);
        if capture.cut() > 0 {
            let what = format!("{} packets were captured without their end", capture.cut());
            part.damaged(crate::archive::Damage { offset: 0, what });
        }
        if !part.kept && !decoding.others.is_empty() {
            let mut others: Vec<_> = decoding.others.iter().collect();
            others.sort_by_key(|(port, count)| (std::cmp::Reverse(**count), **port));
            let named = others.iter().take(NAMED).map(|(port, count)| format!("{port} ({count} datagrams)"));
            let named = named.collect::<Vec<_>>().join(", ");
            return Err(FileError::Ports(named));
        }
        self.finish(path, part, capture.offset())
    }

    fn datagram(&mut self, part: &mut Part, decoding: &mut Decoding, taken: &Taken) -> Result<(), ReadingError> {
        let address = exporter_address(&taken.payload, taken.source.ip());
        let exporter_id = match recognise(&taken.payload) {
            Ok(_) => self.exporter_id(address)?,
            Err(reason) => {
                self.missing(part, decoding, 0, taken.received, reason.name(), reason.unit(), 1);
                return Ok(());
            }
        };
        let context = Context {
            received: taken.received,
            exporter_id,
            source: taken.source,
            transport: Transport::Datagrams,
            sampling: self.configured.sampling(address),
        };
        decoding.scratch.clear();
        // What is kept goes straight into its hour; everything else teaches the decoder only.
        let kept = !decoding.stored && self.would_keep(taken.received);
        let outcome = if kept {
            let batch = self.piece.hour(taken.received, 0);
            decoding.decoder.decode(&context, &taken.payload, batch)
        } else {
            decoding.decoder.decode(&context, &taken.payload, &mut decoding.scratch)
        };
        let flows = u64::from(outcome.records);
        if kept && flows > 0 {
            self.piece.hour(taken.received, outcome.records as usize);
            part.took(taken.received, flows);
        } else if !decoding.stored && flows > 0 {
            self.is_kept(part, taken.received, flows);
        }
        self.outcome(part, decoding, exporter_id, taken.received, &outcome);
        if outcome.lost.count != 0 && self.counts(decoding, taken.received) {
            part.kept = true;
            let (unit, count) = (outcome.lost.unit.name(), outcome.lost.count);
            self.piece.lost(exporter_id, taken.received, NETWORK, unit, count);
        }
        drop(decoding.decoder.take_facts());
        drop(decoding.decoder.take_unknown());
        self.unpark(part, decoding);
        drop(decoding.decoder.take_parked());
        drop(decoding.decoder.take_changes());
        Ok(())
    }

    /// Decodes what waited for the template that has come; these flows belong to earlier moments.
    fn unpark(&mut self, part: &mut Part, decoding: &mut Decoding) {
        loop {
            decoding.scratch.clear();
            let sampling = |id| self.sampling(id);
            let Some(unparked) = decoding.decoder.unpark(sampling, &mut decoding.scratch) else { return };
            let (id, received) = (unparked.exporter_id, unparked.received);
            self.missing(part, decoding, id, received, Reason::Parked.name(), Reason::Parked.unit(), -1);
            self.outcome(part, decoding, id, received, &unparked.outcome);
            let rows = decoding.scratch.rows();
            if decoding.stored || rows == 0 || !self.is_kept(part, received, rows as u64) {
                continue;
            }
            let batch = self.piece.hour(received, rows);
            for row in 0..rows {
                FlowRecord::of(&decoding.scratch, row).append(batch);
            }
            part.took(received, rows as u64);
        }
    }

    /// Data whose template never came.
    fn expire(&mut self, part: &mut Part, decoding: &mut Decoding) {
        for expired in decoding.decoder.take_expired(Timestamp::from_micros(i64::MAX)) {
            let (id, received) = (expired.exporter_id, expired.received);
            self.missing(part, decoding, id, received, Reason::Parked.name(), Reason::Parked.unit(), -1);
            self.missing(part, decoding, id, received, Reason::NoTemplate.name(), Reason::NoTemplate.unit(), 1);
        }
    }

    /// Notes the reasons that decoding met.
    fn outcome(&mut self, part: &mut Part, decoding: &Decoding, id: u32, received: Timestamp, outcome: &Outcome) {
        for (reason, count) in outcome.counts.iter().filter(|(reason, _)| !reason.kept()) {
            self.missing(part, decoding, id, received, reason.name(), reason.unit(), count.into());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is missing is told by exporter, hour, cause and unit")]
    fn missing(
        &mut self,
        part: &mut Part,
        decoding: &Decoding,
        exporter: u32,
        received: Timestamp,
        cause: &'static str,
        unit: Unit,
        count: i64,
    ) {
        if self.counts(decoding, received) {
            part.kept = true;
            self.piece.lost(exporter, received, cause, unit.name(), count);
        }
    }

    /// Whether what happened at that moment is new, and within the days that are kept.
    fn counts(&self, decoding: &Decoding, received: Timestamp) -> bool {
        !decoding.stored && self.would_keep(received)
    }

    fn would_keep(&self, received: Timestamp) -> bool {
        received.day() >= self.kept.segments_from && received <= self.kept.until
    }

    fn sampling(&self, exporter_id: u32) -> ConfiguredSampling {
        let address = self.exporters.iter().find(|(_, id)| **id == exporter_id).map(|(address, _)| *address);
        address.map(|address| self.configured.sampling(address)).unwrap_or_default()
    }
}
