//! Moments that exporters told, read back whatever they are.
//!
//! PostgreSQL keeps moments up to the year 294,276, and chrono, through which other columns are read, panics beyond 262,142. Tables
//! that were filled before imports looked at such moments may hold some. What is later than the year 9999 is read as its end, so
//! that everything can be written down, in any zone.

use super::copy::EPOCH;
use crate::clock::{SECOND, Timestamp};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

/// The last second of the year 9999.
const LATEST: i64 = 253_402_300_799 * SECOND;

/// A column `timestamptz` of a statement with parameters, whose answer is binary.
pub(super) struct Moment(i64);

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        Self::from_micros(moment.0.saturating_add(EPOCH).min(LATEST))
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        <chrono::DateTime<chrono::Utc> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Moment {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Postgres>>::decode(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_chrono_cannot_hold_are_the_end_of_the_year_9999() {
        assert_eq!(Timestamp::from(Moment(0)), Timestamp::from_micros(EPOCH));
        for wild in [9_000_000_000_000_000_000 - EPOCH, i64::MAX] {
            assert_eq!(Timestamp::from(Moment(wild)).to_string(), "9999-12-31T23:59:59.000000Z");
        }
    }
}
