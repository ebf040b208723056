//! A capture: its datagrams go through the decoder, at the moments at which they were captured.
//!
//! What a file holds for one UDP port is brought in by itself, so that other ports of it can follow, and what is there is not
//! brought in again with them. So a file is gone through once to see which ports it has, and then once for each. Each time
//! has a decoder of its own, and an import that goes on reads the file from its beginning, so that the same file
//! always becomes the same flows. Data that comes before its template waits to the end of the file if it must. What exporters
//! tell about themselves is left out: it may be older than what is known.

use super::part::Part;
use super::reading::{FileError, NETWORK, Reading};
use super::report::Ended;
use crate::archive::Damage;
use crate::archive::capture::{Capture, Datagram, Step};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::record::FlowRecord;
use crate::store::imports::{ImportFile, ImportStanding};
use crate::wire::{
    ConfiguredSampling, Context, Decoder, Limits, Outcome, Reason, Transport, Unit, exporter_address, recognise,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// The ports to which flows are usually sent: NetFlow, IPFIX, sFlow.
const PORTS: [u16; 10] = [2_055, 2_056, 4_432, 4_729, 4_739, 6_343, 9_555, 9_995, 9_996, 9_997];
/// Memory for data that waits for its template.
const PARKED: usize = 64 << 20;
/// The most flows that one datagram makes of data that waited for its template: one for 8 bytes of it, which no exporter's is
/// as short as. They become one piece, since the file stands behind that datagram only with all of them.
const UNPARKED: usize = PARKED / 8;
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
}

/// What a file holds.
#[derive(Default)]
struct Found {
    /// The ports that were asked for and that something was sent to.
    ports: BTreeSet<u16>,
    /// Datagrams to other ports that look like flow exports, by port.
    others: BTreeMap<u16, u64>,
    /// What cannot be read.
    damage: Option<Damage>,
}

impl Reading {
    /// Brings in what was sent to each port that was asked for.
    pub(super) fn capture(
        &mut self,
        path: &Path,
        file: &ImportFile<'_>,
        beginnings: &[[u8; 32]],
    ) -> Result<Ended, FileError> {
        let mut found = self.survey(path, file.size)?;
        let known = self.runtime.block_on(self.database.imported_ports(&file.hash));
        let known = known.map_err(|error| FileError::Fatal(error.into()))?;
        // Before captures were brought in port by port, nobody noted which ones were.
        found.others.retain(|port, _| !known.contains(port) && !known.contains(&0));
        if found.ports.is_empty() {
            self.progress.read(file.size);
            if let Some(damage) = &found.damage {
                self.progress.say(&format!("{}: {damage}", path.display()));
            }
        }
        if found.ports.is_empty() && !found.others.is_empty() {
            return Err(FileError::Ports(named(&found.others)));
        }
        let nothing = match (&found.damage, known.is_empty()) {
            (Some(_), _) => Ended::Damaged,
            (None, true) => Ended::Whole,
            (None, false) => Ended::Known,
        };
        let mut ended = found.ports.is_empty().then_some(nothing);
        let mut again = false;
        for port in found.ports {
            let file = ImportFile { port, ..file.clone() };
            let standing = self.begin(path, &file, beginnings, !again)?;
            let this = standing.map_or(Ok(Ended::Known), |standing| self.port(path, &file, &standing, again))?;
            ended = ended.max(Some(this));
            again = true;
        }
        if !found.others.is_empty() {
            self.report.elsewhere =
                found.others.values().fold(self.report.elsewhere, |sum, of| sum.saturating_add(*of));
            self.progress.say(&format!(
                "{}: WARNING: what looks like flow exports was sent to other ports, too, and is left out: {}; bring it in \
                 by importing the file again with --port",
                path.display(),
                named(&found.others)
            ));
        }
        Ok(ended.unwrap_or(Ended::Known))
    }

    /// Looks which ports something was sent to, in the first `size` bytes.
    fn survey(&self, path: &Path, size: u64) -> Result<Found, FileError> {
        let mut capture = Capture::open(File::open(path)?.take(size))?;
        let mut found = Found::default();
        loop {
            let step = capture.step(|Datagram { destination, payload, .. }: Datagram<'_>| {
                if self.ports().contains(&destination.port()) {
                    found.ports.insert(destination.port());
                } else if recognise(payload).is_ok() {
                    let sum = found.others.entry(destination.port()).or_default();
                    *sum = sum.saturating_add(1);
                }
            })?;
            if let Step::End(damage) = step {
                found.damage = damage;
                return Ok(found);
            }
        }
    }

    /// The ports whose datagrams are brought in.
    fn ports(&self) -> &[u16] {
        if self.ports.is_empty() { &PORTS } else { &self.ports }
    }

    /// Brings in what was sent to the port of `file`.
    fn port(
        &mut self,
        path: &Path,
        file: &ImportFile<'_>,
        standing: &ImportStanding,
        again: bool,
    ) -> Result<Ended, FileError> {
        let mut capture = Capture::open(File::open(path)?.take(file.size))?;
        let limits = Limits {
            parked_bytes: PARKED,
            parked_bytes_per_exporter: PARKED,
            parked_seconds: u32::MAX,
            ..Limits::default()
        };
        let (decoder, scratch) = (Decoder::new(limits), FlowBatch::default());
        let mut decoding = Decoding { decoder, scratch, stored: true };
        let mut part = Part::new(path, standing);
        part.again = again;
        let mut continues = standing.begins_at > 0;
        loop {
            let mut taken = None;
            let step = capture.step(|datagram: Datagram<'_>| {
                let Datagram { received, source, destination, payload } = datagram;
                if destination.port() == file.port {
                    taken = Some(Taken { received, source, payload: payload.to_vec() });
                }
            })?;
            let end = capture.offset();
            if continues && end > standing.begins_at {
                // At the end of the shorter file, what waited for a template was told as missing.
                self.expire(&mut part, &mut decoding);
                continues = false;
            }
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
        decoding.stored = continues;
        self.expire(&mut part, &mut decoding);
        capture.cut().into_iter().for_each(|damage| part.damaged(damage));
        self.finish(path, part, capture.offset())
    }

    fn datagram(&mut self, part: &mut Part, decoding: &mut Decoding, taken: &Taken) -> Result<(), FileError> {
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
        let mut room = UNPARKED;
        loop {
            decoding.scratch.clear();
            let sampling = |id| self.sampling(id);
            let Some(unparked) = decoding.decoder.unpark(sampling, &mut decoding.scratch) else { return };
            let (id, received) = (unparked.exporter_id, unparked.received);
            self.missing(part, decoding, id, received, Reason::Parked.name(), Reason::Parked.unit(), -1);
            self.outcome(part, decoding, id, received, &unparked.outcome);
            let decoded = decoding.scratch.rows();
            let rows = decoded.min(room);
            room = room.saturating_sub(rows);
            if let Some(left) = decoded.checked_sub(rows).filter(|left| *left > 0) {
                let (reason, left) = (Reason::OutputLimit, i64::try_from(left).unwrap_or(i64::MAX));
                self.missing(part, decoding, id, received, reason.name(), reason.unit(), left);
            }
            if decoding.stored || rows == 0 || !self.is_kept(part, received, rows as u64) {
                continue;
            }
            let batch = self.piece.hour(received, rows);
            if rows == decoded {
                batch.append(&decoding.scratch);
            } else {
                (0..rows).for_each(|row| FlowRecord::of(&decoding.scratch, row).append(batch));
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

/// Ports with how many datagrams were sent to them, those with the most first.
fn named(ports: &BTreeMap<u16, u64>) -> String {
    let mut ports: Vec<_> = ports.iter().collect();
    ports.sort_by_key(|(port, count)| (std::cmp::Reverse(**count), **port));
    let named = ports.iter().take(NAMED).map(|(port, count)| format!("{port} ({count} datagrams)"));
    named.collect::<Vec<_>>().join(", ")
}
