//! All that is known of one exporter, as of one moment.
//!
//! Promises: each list has a limit, and [`Totals`] say how long it would be without; so that no exporter, however much it
//! tells, makes a long answer. [`facts`](super::facts) and [`commit`](super::commit) write what is read here.

use super::catalogue::{ExporterRow, decoder_state, list};
use super::commit::DecoderState;
use super::{Database, StoreError, count};
use crate::clock::Timestamp;
use crate::flow::facts::Counters;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

/// Rows of a list at most, the first by number.
pub const ROWS: usize = 10_000;
/// Applications at most, the first by number.
pub const APPLICATIONS: usize = 1_000;
/// Rows of loss at most, the latest.
pub const LOSSES: usize = 10_000;
/// Sessions are listed until their states have so many bytes together, the latest used first. A field of a template takes
/// eight.
pub const STATE_BYTES: i64 = 1 << 20;

/// One exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterDetail {
    /// What the list of exporters says of it.
    pub exporter: ExporterRow,
    /// By protocol, as `wire` codes them: how many milliseconds its clock was ahead in the last datagram that told.
    pub clock_offsets: Vec<(u16, Option<i64>)>,
    /// What its decoders remember.
    pub sessions: Vec<DecoderState>,
    /// Its interfaces, by number.
    pub interfaces: Vec<InterfaceRow>,
    /// Its applications, by number.
    pub applications: Vec<ApplicationRow>,
    /// Its VRFs with their names, by number.
    pub vrfs: Vec<(u32, Option<String>)>,
    /// What it says of its own work, by domain and name.
    pub statistics: Vec<StatisticRow>,
    /// Elements that no field was found for, those in most records first.
    pub unknown_elements: Vec<UnknownRow>,
    /// What is missing, by hour, cause and unit, ascending.
    pub loss: Vec<HourLoss>,
    /// How long the lists are without their limits.
    pub totals: Totals,
}

/// An interface as its exporter told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceRow {
    /// SNMP index.
    pub interface: u32,
    /// Short name.
    pub name: Option<String>,
    /// What people wrote about it.
    pub description: Option<String>,
    /// Bits a second.
    pub speed: Option<u64>,
    /// The latest counters, and since when they are so.
    pub counters: Option<(Timestamp, Counters)>,
}

/// An application as its exporter told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationRow {
    /// The value of the field `application_id`.
    pub application_id: u64,
    /// Short name.
    pub name: Option<String>,
    /// A longer one.
    pub description: Option<String>,
}

/// A number about an exporter's own work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticRow {
    /// The observation domain it is about.
    pub observation_domain: u32,
    /// IANA's name of the information element.
    pub statistic: String,
    /// Its value.
    pub value: u64,
    /// When the value was told first.
    pub received: Timestamp,
}

/// An element without a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRow {
    /// The private enterprise number; 0 is IANA, and all of NetFlow v9.
    pub enterprise: u32,
    /// The information element.
    pub element: u16,
    /// Records that had it.
    pub records: u64,
    /// When the last of them was received.
    pub last_seen: Timestamp,
}

/// What is missing of one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourLoss {
    /// The start of the UTC hour.
    pub hour: Timestamp,
    /// Why it is missing.
    pub cause: String,
    /// What is counted.
    pub unit: String,
    /// How many; never negative.
    pub count: u64,
}

/// How long the lists are without their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions.
    pub sessions: u64,
    /// Interfaces.
    pub interfaces: u64,
    /// Applications.
    pub applications: u64,
    /// VRFs.
    pub vrfs: u64,
    /// Statistics.
    pub statistics: u64,
    /// Unknown elements.
    pub unknown_elements: u64,
    /// Rows of loss in the window.
    pub loss: u64,
}

impl Database {
    /// All that is known of an exporter, with what is missing from the hours that touch `from` up to but not including
    /// `to`; `None` when there is no such exporter.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exporter(
        &self,
        exporter_id: u32,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<ExporterDetail>, StoreError> {
        let mut transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let Some(exporter) = list(&mut transaction, Some(exporter_id)).await?.exporters.pop() else { return Ok(None) };
        let mut asked = Asked { connection: &mut transaction, exporter: exporter_id.into(), from, to };
        Ok(Some(ExporterDetail {
            exporter,
            clock_offsets: asked.clock_offsets().await?,
            sessions: asked.sessions().await?,
            interfaces: asked.interfaces().await?,
            applications: asked.applications().await?,
            vrfs: asked.vrfs().await?,
            statistics: asked.statistics().await?,
            unknown_elements: asked.unknown_elements().await?,
            loss: asked.loss().await?,
            totals: asked.totals().await?,
        }))
    }
}

/// One exporter that is asked about.
struct Asked<'a> {
    connection: &'a mut PgConnection,
    exporter: i64,
    from: Timestamp,
    to: Timestamp,
}

impl Asked<'_> {
    async fn clock_offsets(&mut self) -> Result<Vec<(u16, Option<i64>)>, StoreError> {
        let rows: Vec<(i16, Option<i64>)> = sqlx::query_as(
            "SELECT version, clock_offset_ms FROM exporter_activity WHERE exporter_id = $1 ORDER BY version",
        )
        .bind(self.exporter)
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(rows.into_iter().filter_map(|(version, offset)| Some((u16::try_from(version).ok()?, offset))).collect())
    }

    async fn sessions(&mut self) -> Result<Vec<DecoderState>, StoreError> {
        let rows = sqlx::query(
            "SELECT exporter_id, transport, source_port, version, observation_domain, templates, state \
             FROM (SELECT *, sum(octet_length(state)) OVER (ORDER BY updated_at DESC, transport, source_port, version, \
             observation_domain, journal_id) AS bytes FROM decoder_state WHERE exporter_id = $1) AS latest \
             WHERE bytes <= $2 ORDER BY transport, source_port, version, observation_domain, journal_id",
        )
        .bind(self.exporter)
        .bind(STATE_BYTES)
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter().map(decoder_state).collect()
    }

    async fn interfaces(&mut self) -> Result<Vec<InterfaceRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT interface, name, description, speed, received, in_bytes::text, in_packets, in_discards, in_errors, \
             out_bytes::text, out_packets, out_discards, out_errors FROM (SELECT * FROM interfaces \
             WHERE exporter_id = $1 ORDER BY interface LIMIT $2) AS known LEFT JOIN LATERAL (SELECT * \
             FROM interface_counters AS told WHERE told.exporter_id = $1 AND told.interface = known.interface \
             ORDER BY hour DESC LIMIT 1) AS latest USING (interface) ORDER BY interface",
        )
        .bind(self.exporter)
        .bind(ROWS as i64)
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter().map(interface).collect()
    }

    async fn applications(&mut self) -> Result<Vec<ApplicationRow>, StoreError> {
        let rows: Vec<(i64, Option<String>, Option<String>)> = sqlx::query_as(
            "SELECT application_id, name, description FROM applications WHERE exporter_id = $1 \
             ORDER BY application_id LIMIT $2",
        )
        .bind(self.exporter)
        .bind(APPLICATIONS as i64)
        .fetch_all(&mut *self.connection)
        .await?;
        let row = |(id, name, description): (i64, _, _)| ApplicationRow {
            application_id: id.cast_unsigned(),
            name,
            description,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn vrfs(&mut self) -> Result<Vec<(u32, Option<String>)>, StoreError> {
        let rows: Vec<(i64, Option<String>)> =
            sqlx::query_as("SELECT vrf, name FROM vrfs WHERE exporter_id = $1 ORDER BY vrf LIMIT $2")
                .bind(self.exporter)
                .bind(ROWS as i64)
                .fetch_all(&mut *self.connection)
                .await?;
        rows.into_iter().map(|(vrf, name)| Ok((number("vrfs.vrf", vrf)?, name))).collect()
    }

    async fn statistics(&mut self) -> Result<Vec<StatisticRow>, StoreError> {
        let rows: Vec<(i64, String, String, DateTime<Utc>)> = sqlx::query_as(
            "SELECT observation_domain, statistic, value::text, received FROM exporter_statistics \
             WHERE exporter_id = $1 ORDER BY observation_domain, statistic LIMIT $2",
        )
        .bind(self.exporter)
        .bind(ROWS as i64)
        .fetch_all(&mut *self.connection)
        .await?;
        let row = |(domain, statistic, value, received): (i64, _, String, DateTime<Utc>)| {
            Ok(StatisticRow {
                observation_domain: number("exporter_statistics.observation_domain", domain)?,
                statistic,
                value: numeric("exporter_statistics.value", &value)?,
                received: received.into(),
            })
        };
        rows.into_iter().map(row).collect()
    }

    async fn unknown_elements(&mut self) -> Result<Vec<UnknownRow>, StoreError> {
        let rows: Vec<(i64, i32, i64, DateTime<Utc>)> = sqlx::query_as(
            "SELECT enterprise, element, records, last_seen FROM unknown_elements WHERE exporter_id = $1 \
             ORDER BY records DESC, enterprise, element LIMIT $2",
        )
        .bind(self.exporter)
        .bind(ROWS as i64)
        .fetch_all(&mut *self.connection)
        .await?;
        let row = |(enterprise, element, records, last_seen): (i64, i32, i64, DateTime<Utc>)| {
            Ok(UnknownRow {
                enterprise: number("unknown_elements.enterprise", enterprise)?,
                element: number("unknown_elements.element", element.into())?,
                records: count(records),
                last_seen: last_seen.into(),
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// An hour in which more was taken back than lost counts as one without loss.
    async fn loss(&mut self) -> Result<Vec<HourLoss>, StoreError> {
        let rows: Vec<(DateTime<Utc>, String, String, i64)> = sqlx::query_as(
            "SELECT hour, cause, unit, count FROM loss WHERE exporter_id = $1 AND hour >= $2 AND hour < $3 \
             AND count > 0 ORDER BY hour DESC, cause DESC, unit DESC LIMIT $4",
        )
        .bind(self.exporter)
        .bind(self.from.hour().to_utc())
        .bind(self.to.to_utc())
        .bind(LOSSES as i64)
        .fetch_all(&mut *self.connection)
        .await?;
        let row = |(hour, cause, unit, lost): (DateTime<Utc>, _, _, _)| HourLoss {
            hour: hour.into(),
            cause,
            unit,
            count: count(lost),
        };
        Ok(rows.into_iter().rev().map(row).collect())
    }

    async fn totals(&mut self) -> Result<Totals, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM decoder_state WHERE exporter_id = $1), \
             (SELECT count(*) FROM interfaces WHERE exporter_id = $1), \
             (SELECT count(*) FROM applications WHERE exporter_id = $1), \
             (SELECT count(*) FROM vrfs WHERE exporter_id = $1), \
             (SELECT count(*) FROM exporter_statistics WHERE exporter_id = $1), \
             (SELECT count(*) FROM unknown_elements WHERE exporter_id = $1), \
             (SELECT count(*) FROM loss WHERE exporter_id = $1 AND hour >= $2 AND hour < $3 AND count > 0)",
        )
        .bind(self.exporter)
        .bind(self.from.hour().to_utc())
        .bind(self.to.to_utc())
        .fetch_one(&mut *self.connection)
        .await?;
        let total = |index: usize| Ok::<_, sqlx::Error>(count(row.try_get(index)?));
        Ok(Totals {
            sessions: total(0)?,
            interfaces: total(1)?,
            applications: total(2)?,
            vrfs: total(3)?,
            statistics: total(4)?,
            unknown_elements: total(5)?,
            loss: total(6)?,
        })
    }
}

fn interface(row: &PgRow) -> Result<InterfaceRow, StoreError> {
    let interface = number("interfaces.interface", row.try_get(0)?)?;
    let bytes = |index: usize| numeric("interface_counters", row.try_get::<&str, _>(index)?);
    let counted = |index: usize| Ok::<_, sqlx::Error>(count(row.try_get(index)?));
    let counters = match row.try_get::<Option<DateTime<Utc>>, _>(4)? {
        None => None,
        Some(received) => Some((
            received.into(),
            Counters {
                interface,
                in_bytes: bytes(5)?,
                in_packets: counted(6)?,
                in_discards: counted(7)?,
                in_errors: counted(8)?,
                out_bytes: bytes(9)?,
                out_packets: counted(10)?,
                out_discards: counted(11)?,
                out_errors: counted(12)?,
            },
        )),
    };
    Ok(InterfaceRow {
        interface,
        name: row.try_get(1)?,
        description: row.try_get(2)?,
        speed: row.try_get::<Option<i64>, _>(3)?.map(count),
        counters,
    })
}

fn number<T: TryFrom<i64>>(place: &'static str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::Unexpected { place, detail: value.to_string() })
}

/// A `numeric` column, read as text, that never holds more than 64 bits.
fn numeric(place: &'static str, value: &str) -> Result<u64, StoreError> {
    value.parse().map_err(|_| StoreError::Unexpected { place, detail: value.to_owned() })
}
