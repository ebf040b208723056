//! Flows as compressed columns in the tables `flow_segments` and `flow_segments_open`.

use super::{StoreError, bigint, copy};
use crate::flow::fields::CATALOGUE;
use crate::flow::segment::Segment;
use sqlx::PgConnection;

/// Where segments lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `flow_segments_open`: small ones of hours that are not sealed.
    Open,
    /// `flow_segments`: those that stay.
    Sealed,
}

impl Place {
    /// The table.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Open => "flow_segments_open",
            Self::Sealed => "flow_segments",
        }
    }
}

/// Copies `segments`, each with its id, to `place`.
pub(super) async fn write(
    connection: &mut PgConnection,
    place: Place,
    segments: impl Iterator<Item = (i64, &Segment)>,
) -> Result<(), StoreError> {
    let fields: Vec<_> = CATALOGUE.iter().map(|row| row.name).collect();
    let statement = format!(
        "COPY {} (segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, \
         total_flows, {}) FROM STDIN (FORMAT binary)",
        place.table(),
        fields.join(", ")
    );
    let mut copy = copy::CopyIn::begin(connection, &statement).await?;
    for (id, segment) in segments {
        copy::row(&mut copy.out, 7 + fields.len());
        copy::int8(&mut copy.out, id);
        copy::timestamptz(&mut copy.out, segment.received_first);
        copy::timestamptz(&mut copy.out, segment.received_last);
        copy::int4(&mut copy.out, i32::try_from(segment.rows).unwrap_or(i32::MAX));
        for total in [segment.totals.bytes, segment.totals.packets, segment.totals.flows] {
            copy::int8(&mut copy.out, bigint(total));
        }
        let mut blocks = segment.columns.iter().peekable();
        for row in CATALOGUE {
            match blocks.next_if(|(field, _)| *field == row.field) {
                Some((_, block)) => copy::bytes(&mut copy.out, block),
                None => copy::null(&mut copy.out),
            }
            copy.send_when_full().await?;
        }
        if let Some((field, _)) = blocks.next() {
            return Err(StoreError::Unexpected {
                place: "segment to be stored",
                detail: format!("the block of {} is not in the order of the catalogue", field.name()),
            });
        }
    }
    copy.finish().await
}
