//! Flows as plain rows in the table `flows`, for people with SQL tools.

use super::{StoreError, bigint, copy};
use crate::clock::Timestamp;
use crate::flow::batch::{Addresses, Column, Cursor, FlowBatch, Values};
use crate::flow::fields::{Field, Kind};
use sqlx::PgConnection;
use std::collections::BTreeSet;

/// Copies the flows of `batch` into `flows`, but for those of the UTC days in `without`. Only columns that some flow has are
/// named; the others become NULL.
pub(super) async fn write(
    connection: &mut PgConnection,
    batch: &FlowBatch,
    without: &BTreeSet<Timestamp>,
) -> Result<(), StoreError> {
    let mut columns: Vec<_> = Field::ALL
        .into_iter()
        .filter(|&field| !batch.column(field).present().is_empty())
        .map(|field| Source::new(field, batch.column(field)))
        .collect();
    let names: Vec<_> = columns.iter().map(|column| column.field.name()).collect();
    let statement = format!("COPY flows ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let mut copy = copy::CopyIn::begin(connection, &statement).await?;
    let received = batch.column(Field::Received).values();
    for row in 0..batch.rows() {
        if !without.is_empty() && day_of(received, row).is_some_and(|day| without.contains(&day)) {
            continue;
        }
        copy::row(&mut copy.out, columns.len());
        for column in &mut columns {
            column.write(&mut copy.out, row);
        }
        copy.send_when_full().await?;
    }
    copy.finish().await
}

/// The UTC day on which the flow in `row` was received.
fn day_of(received: &Values, row: usize) -> Option<Timestamp> {
    let Values::Time(moments) = received else { return None };
    moments.get(row).map(|moment| Timestamp::from_micros(*moment).day())
}

/// A column on its way into rows.
struct Source<'a> {
    field: Field,
    is_mac: bool,
    values: &'a Values,
    cursor: Cursor<'a>,
}

impl<'a> Source<'a> {
    fn new(field: Field, column: &'a Column) -> Self {
        let cursor = column.present().cursor();
        Self { field, is_mac: field.kind() == Kind::Mac, values: column.values(), cursor }
    }

    /// Writes the value of `row` in the type of the column, or NULL. Rows must come in ascending order.
    fn write(&mut self, out: &mut Vec<u8>, row: usize) {
        let written = self.cursor.holds(row)
            && match self.values {
                Values::U8(values) => values.get(row).map(|&value| copy::int2(out, value.into())).is_some(),
                Values::U16(values) => values.get(row).map(|&value| copy::int4(out, value.into())).is_some(),
                Values::U32(values) => values.get(row).map(|&value| copy::int8(out, value.into())).is_some(),
                Values::U64(values) if self.is_mac => values.get(row).map(|&value| copy::macaddr(out, value)).is_some(),
                // What is beyond the type's range becomes its largest value.
                Values::U64(values) => values.get(row).map(|&value| copy::int8(out, bigint(value))).is_some(),
                Values::Time(values) => {
                    values.get(row).map(|&value| copy::timestamptz(out, Timestamp::from_micros(value))).is_some()
                }
                Values::Address(Addresses::V4(values)) => {
                    values.get(row).map(|&value| copy::inet_v4(out, value)).is_some()
                }
                Values::Address(Addresses::Wide(values)) => {
                    values.get(row).map(|&value| copy::inet(out, value)).is_some()
                }
            };
        if !written {
            copy::null(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_fits_its_sql_type() {
        for field in Field::ALL {
            let sql_type = match field.kind() {
                Kind::U8 => "smallint",
                Kind::U16 => "integer",
                Kind::U32 | Kind::U64 => "bigint",
                Kind::Time => "timestamptz",
                Kind::Address => "inet",
                Kind::Mac => "macaddr",
            };
            assert_eq!(field.info().sql_type, sql_type, "{}", field.name());
        }
    }
}
