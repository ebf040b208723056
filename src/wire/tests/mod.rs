//! What the decoder makes of datagrams, good and bad. Each file tests one promise of the module.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod applications;
mod bad_clocks;
mod bad_exporters;
mod bad_input;
mod bad_lengths;
mod build;
mod build_sflow;
mod captures;
mod captures_sflow;
mod describe;
mod elements;
mod events;
mod exact_loss;
mod fields;
mod fixed;
mod fixtures;
mod golden;
mod limits;
mod mutate;
mod naive;
mod naive_sflow;
mod netflow_parser;
mod options;
mod parking;
mod random;
mod sections;
mod seeds;
mod sequences;
mod sflow_packets;
mod sflow_parser;
mod sflow_samples;
mod states;
mod vendors;

use super::{ConfiguredSampling, Context, Decoder, Limits, Outcome, Transport};
use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;

/// Export time in headers: 2026-11-23 00:00:00 UTC.
const SECONDS: u32 = 1_795_392_000;
/// Receive time in microseconds: 2 s later.
const NOW: i64 = (SECONDS as i64 + 2) * SECOND;

fn context_of(exporter_id: u32, port: u16, received: i64) -> Context {
    let source = ([192, 0, 2, 1], port).into();
    Context {
        received: Timestamp::from_micros(received),
        exporter_id,
        source,
        transport: Transport::Datagrams,
        sampling: ConfiguredSampling::default(),
    }
}

/// A decoder and its batch.
struct Bench {
    decoder: Decoder,
    batch: FlowBatch,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { decoder: Decoder::new(limits), batch: FlowBatch::default() }
    }

    /// Decodes a datagram of exporter 1, port 9999, received at [`NOW`].
    fn decode(&mut self, datagram: &[u8]) -> Outcome {
        self.decode_as(&context_of(1, 9_999, NOW), datagram)
    }

    fn decode_as(&mut self, context: &Context, datagram: &[u8]) -> Outcome {
        let before = self.batch.rows();
        let outcome = self.decoder.decode(context, datagram, &mut self.batch);
        assert_eq!(self.batch.rows() - before, outcome.records as usize, "stored is not counted");
        outcome
    }

    /// Decodes the sets whose template has come.
    fn unpark(&mut self) -> Vec<Outcome> {
        let Self { decoder, batch } = self;
        std::iter::from_fn(|| decoder.unpark(|_| ConfiguredSampling::default(), batch))
            .map(|unparked| unparked.outcome)
            .collect()
    }

    /// The value of a field in a row, as people read it; empty when absent.
    fn shown(&self, field: Field, row: usize) -> String {
        self.batch.value(field, row).map(|value| value.to_string()).unwrap_or_default()
    }

    fn all(&self, row: usize) -> Vec<(Field, String)> {
        Field::ALL
            .into_iter()
            .map(|field| (field, self.shown(field, row)))
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }
}

/// Reasons by name with their counts.
fn reasons(outcome: &Outcome) -> Vec<(&'static str, u32)> {
    outcome.counts.iter().map(|(reason, count)| (reason.name(), count)).collect()
}
