//! Flows as compressed columns in the table `flow_segments`.

use super::{StoreError, answer, bigint, commit::CHUNK, copy};
use crate::flow::fields::CATALOGUE;
use crate::flow::segment::Segment;
use sqlx::PgConnection;

/// Copies `segments` into `flow_segments`, with ids from `first_id` on.
pub(super) async fn write(
    connection: &mut PgConnection,
    first_id: i64,
    segments: &[Segment],
) -> Result<(), StoreError> {
    let fields: Vec<_> = CATALOGUE.iter().map(|row| row.name).collect();
    let statement = format!(
        "COPY flow_segments (segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, \
         total_flows, {}) FROM STDIN (FORMAT binary)",
        fields.join(", ")
    );
    let mut copy = answer(connection.copy_in_raw(&statement)).await?;
    let mut out = Vec::with_capacity(2 * CHUNK);
    out.extend_from_slice(copy::HEADER);
    for (id, segment) in (first_id..).zip(segments) {
        copy::row(&mut out, 7 + fields.len());
        copy::int8(&mut out, id);
        copy::timestamptz(&mut out, segment.received_first);
        copy::timestamptz(&mut out, segment.received_last);
        copy::int4(&mut out, i32::try_from(segment.rows).unwrap_or(i32::MAX));
        for total in [segment.totals.bytes, segment.totals.packets, segment.totals.flows] {
            copy::int8(&mut out, bigint(total));
        }
        let mut blocks = segment.columns.iter().peekable();
        for row in CATALOGUE {
            match blocks.next_if(|(field, _)| *field == row.field) {
                Some((_, block)) => copy::bytes(&mut out, block),
                None => copy::null(&mut out),
            }
            if out.len() >= CHUNK {
                answer(copy.send(out.as_slice())).await?;
                out.clear();
            }
        }
        if let Some((field, _)) = blocks.next() {
            return Err(StoreError::Unexpected {
                place: "segment to be stored",
                detail: format!("the block of {} is not in the order of the catalogue", field.name()),
            });
        }
    }
    out.extend_from_slice(copy::TRAILER);
    answer(copy.send(out.as_slice())).await?;
    answer(copy.finish()).await?;
    Ok(())
}
