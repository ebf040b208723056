//! Flows as plain rows in the table `flows`, for people with SQL tools.

use super::copy::{self, Integer};
use super::{StoreError, commit::CHUNK};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use crate::flow::value::Value;
use sqlx::PgConnection;

/// The SQL integer that numbers of `field` are kept in.
fn integer(field: Field) -> Integer {
    match field.info().sql_type {
        "smallint" => Integer::Int2,
        "integer" => Integer::Int4,
        _ => Integer::Int8,
    }
}

/// Copies all flows of `batch` into `flows`. Only columns that some flow has are named; the others become NULL.
pub(super) async fn write(connection: &mut PgConnection, batch: &FlowBatch) -> Result<(), StoreError> {
    let columns: Vec<_> = Field::ALL
        .into_iter()
        .filter(|&field| !batch.column(field).present().is_empty())
        .map(|field| (batch.column(field), field.kind(), integer(field), field.name()))
        .collect();
    let names: Vec<_> = columns.iter().map(|(.., name)| *name).collect();
    let statement = format!("COPY flows ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let mut copy = connection.copy_in_raw(&statement).await?;
    let mut out = Vec::with_capacity(CHUNK + 4_096);
    out.extend_from_slice(copy::HEADER);
    // Columns of one kind repeat their run search for each row; remembering the run's end makes that one comparison.
    let mut cursors: Vec<Cursor<'_>> =
        columns.iter().map(|(column, ..)| Cursor::new(column.present().runs())).collect();
    for row in 0..batch.rows() {
        copy::row(&mut out, columns.len());
        for ((column, kind, integer, _), cursor) in columns.iter().zip(&mut cursors) {
            match cursor.holds(row).then(|| column.raw(row)).flatten() {
                Some(bits) => copy::value(&mut out, Value::from_bits(*kind, bits), *integer),
                None => copy::null(&mut out),
            }
        }
        if out.len() >= CHUNK {
            copy.send(out.as_slice()).await?;
            out.clear();
        }
    }
    out.extend_from_slice(copy::TRAILER);
    copy.send(out.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

/// Walks ascending rows along ascending runs.
struct Cursor<'a> {
    runs: std::slice::Iter<'a, std::ops::Range<usize>>,
    current: std::ops::Range<usize>,
}

impl<'a> Cursor<'a> {
    fn new(runs: &'a [std::ops::Range<usize>]) -> Self {
        Self { runs: runs.iter(), current: 0..0 }
    }

    /// Whether `row` lies in a run. Rows must be asked for in ascending order.
    fn holds(&mut self, row: usize) -> bool {
        while row >= self.current.end {
            match self.runs.next() {
                Some(run) => self.current = run.clone(),
                None => return false,
            }
        }
        self.current.contains(&row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::fields::Kind;

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
