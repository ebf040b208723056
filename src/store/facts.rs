//! What exporters tell about themselves, and elements of theirs that we do not know, as they are written.
//!
//! Promises: all of it belongs to the transaction of its batch. What a fact leaves open stays as it was told before, and
//! rows whose facts are told again unchanged stay as they are. No exporter has more than [`ENTRIES`] entries in the catalogue (interfaces,
//! applications, VRFs and statistics together) nor more than [`UNKNOWN_ELEMENTS`] unknown elements, unless several
//! collectors store at the same moment; what is beyond is counted as [`FACT_LIMIT`]. Text is stored as it came, but for
//! NUL, which PostgreSQL cannot hold. [`exporter`](super::exporter) reads it back.

use super::commit::Loss;
use super::{Database, StoreError, bigint};
use crate::clock::Timestamp;
use crate::flow::facts::{Counters, Fact, FactKey};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// The most entries one exporter may have in the catalogue.
pub const ENTRIES: usize = 100_000;
/// The most unknown elements that are counted for one exporter.
pub const UNKNOWN_ELEMENTS: usize = 1_000;
/// The cause under which facts beyond a limit are counted, in [`FACTS`].
pub const FACT_LIMIT: &str = "fact_limit";
/// The unit of [`FACT_LIMIT`]. No flow is missing where facts are.
pub const FACTS: &str = "facts";
/// How many rows one round of trimming deletes at most.
const TRIMMED: i64 = 100_000;

/// The exporter, what is told, and for counters the UTC hour, of which each keeps its last.
pub type ToldKey = (u32, FactKey, Option<Timestamp>);
/// The latest facts, with the receive time of the latest.
pub type Facts = BTreeMap<ToldKey, (Timestamp, Fact)>;
/// Elements without a field, by exporter, enterprise and element: how many records had them, and the last receive time.
pub type UnknownElements = BTreeMap<(u32, u32, u16), (u64, Timestamp)>;

/// Text as PostgreSQL can hold it: a NUL becomes the replacement character.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// An identifier of 64 bits in a `bigint` column: all are kept apart, those beyond 2^63 as negative numbers.
const fn identifier(id: u64) -> i64 {
    id.cast_signed()
}

/// An entry of the catalogue: the exporter, and what is told. Counters make their interface an entry.
type Entry = (u32, FactKey);

const fn entry(exporter_id: u32, fact: &Fact) -> Entry {
    match fact.key() {
        FactKey::Counters(interface) => (exporter_id, FactKey::Interface(interface)),
        key => (exporter_id, key),
    }
}

/// Writes facts, and gives what was refused, by exporter and hour.
pub(super) async fn write(connection: &mut PgConnection, facts: &Facts) -> Result<Vec<Loss>, StoreError> {
    if facts.is_empty() {
        return Ok(Vec::new());
    }
    let entries: BTreeSet<_> = facts.iter().map(|((exporter_id, ..), (_, fact))| entry(*exporter_id, fact)).collect();
    let refused = beyond_limit(connection, &entries.into_iter().collect::<Vec<_>>()).await?;
    let mut rows = Rows::default();
    let mut lost = BTreeMap::new();
    for (&(exporter_id, ..), (received, fact)) in facts {
        if refused.contains(&entry(exporter_id, fact)) {
            let count = lost.entry((exporter_id, received.hour())).or_insert(0i64);
            *count = count.saturating_add(1);
        } else {
            rows.add(exporter_id, *received, fact);
        }
    }
    rows.write(connection).await?;
    Ok(losses(lost))
}

fn losses(lost: BTreeMap<(u32, Timestamp), i64>) -> Vec<Loss> {
    let loss = |((exporter_id, hour), count)| Loss { exporter_id, hour, cause: FACT_LIMIT, unit: FACTS, count };
    lost.into_iter().map(loss).collect()
}

/// Which of `entries` are new and have no room.
async fn beyond_limit(connection: &mut PgConnection, entries: &[Entry]) -> Result<BTreeSet<Entry>, StoreError> {
    let parts = |&(exporter_id, key): &Entry| {
        let (table, domain, id, name) = match key {
            FactKey::Interface(id) | FactKey::Counters(id) => (0i16, 0, i64::from(id), ""),
            FactKey::Application(id) => (1, 0, identifier(id), ""),
            FactKey::Vrf(id) => (2, 0, i64::from(id), ""),
            FactKey::Statistic(domain, name) => (3, i64::from(domain), 0, name),
        };
        (i64::from(exporter_id), table, domain, id, name)
    };
    let parts: Vec<_> = entries.iter().map(parts).collect();
    let new: Vec<i64> = sqlx::query_scalar(
        "SELECT told.place - 1 FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::text[]) \
         WITH ORDINALITY AS told (exporter, kind, domain, id, name, place) WHERE NOT CASE kind \
         WHEN 0 THEN EXISTS (SELECT FROM interfaces WHERE exporter_id = exporter AND interface = id) \
         WHEN 1 THEN EXISTS (SELECT FROM applications WHERE exporter_id = exporter AND application_id = id) \
         WHEN 2 THEN EXISTS (SELECT FROM vrfs WHERE exporter_id = exporter AND vrf = id) \
         ELSE EXISTS (SELECT FROM exporter_statistics \
         WHERE exporter_id = exporter AND observation_domain = domain AND statistic = told.name) END ORDER BY place",
    )
    .bind(parts.iter().map(|part| part.0).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.1).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.2).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.3).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.4).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let new: Vec<Entry> =
        new.into_iter().filter_map(|place| entries.get(usize::try_from(place).ok()?).copied()).collect();
    let mut exporters: Vec<_> = new.iter().map(|(exporter_id, _)| i64::from(*exporter_id)).collect();
    exporters.dedup();
    if exporters.is_empty() {
        return Ok(BTreeSet::new());
    }
    let present: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT exporter, (SELECT count(*) FROM interfaces WHERE exporter_id = exporter) \
         + (SELECT count(*) FROM applications WHERE exporter_id = exporter) \
         + (SELECT count(*) FROM vrfs WHERE exporter_id = exporter) \
         + (SELECT count(*) FROM exporter_statistics WHERE exporter_id = exporter) \
         FROM unnest($1::bigint[]) AS told (exporter)",
    )
    .bind(&exporters)
    .fetch_all(connection)
    .await?;
    let mut room: BTreeMap<_, _> =
        present.into_iter().map(|(exporter, present)| (exporter, (ENTRIES as i64).saturating_sub(present))).collect();
    let mut refused = BTreeSet::new();
    for entry in new {
        let room = room.entry(i64::from(entry.0)).or_insert(0);
        if *room > 0 {
            *room = room.saturating_sub(1);
        } else {
            refused.insert(entry);
        }
    }
    Ok(refused)
}

/// Exporter, interface, name, description and speed.
type InterfaceFact = (i64, i64, Option<String>, Option<String>, Option<i64>);

/// Facts as rows of their tables.
#[derive(Default)]
struct Rows<'a> {
    interfaces: Vec<InterfaceFact>,
    applications: Vec<(i64, i64, Option<String>, Option<String>)>,
    vrfs: Vec<(i64, i64, Option<String>)>,
    statistics: Vec<(i64, i64, &'static str, String, Timestamp)>,
    counters: Vec<(i64, Timestamp, &'a Counters)>,
}

impl<'a> Rows<'a> {
    fn add(&mut self, exporter_id: u32, received: Timestamp, fact: &'a Fact) {
        let exporter = i64::from(exporter_id);
        let own = |told: &Option<String>| told.as_deref().map(text);
        match fact {
            Fact::Interface { interface, name, description, speed } => {
                self.interfaces.push((exporter, (*interface).into(), own(name), own(description), speed.map(bigint)));
            }
            Fact::Counters(counters) => self.counters.push((exporter, received, counters)),
            Fact::Application { application_id, name, description } => {
                self.applications.push((exporter, identifier(*application_id), own(name), own(description)));
            }
            Fact::Vrf { vrf, name } => self.vrfs.push((exporter, (*vrf).into(), own(name))),
            Fact::Statistic { observation_domain, statistic, value } => {
                self.statistics.push((exporter, (*observation_domain).into(), statistic, value.to_string(), received));
            }
        }
    }

    async fn write(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        self.write_interfaces(connection).await?;
        self.write_counters(connection).await?;
        self.write_applications(connection).await?;
        self.write_vrfs(connection).await?;
        self.write_statistics(connection).await
    }

    async fn write_interfaces(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let mut rows: Vec<_> = self.interfaces.iter().collect();
        let told: BTreeSet<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        // An interface that only has counters is an interface, too.
        let counted: BTreeSet<_> = self.counters.iter().map(|row| (row.0, i64::from(row.2.interface))).collect();
        let bare: Vec<_> = counted.difference(&told).map(|&(exporter, id)| (exporter, id, None, None, None)).collect();
        rows.extend(&bare);
        rows.sort_unstable_by_key(|row| (row.0, row.1));
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO interfaces AS known (exporter_id, interface, name, description, speed) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[]) \
             ON CONFLICT (exporter_id, interface) DO UPDATE SET name = coalesce(EXCLUDED.name, known.name), \
             description = coalesce(EXCLUDED.description, known.description), \
             speed = coalesce(EXCLUDED.speed, known.speed), updated_at = now() \
             WHERE (known.name, known.description, known.speed) IS DISTINCT FROM (coalesce(EXCLUDED.name, known.name), \
             coalesce(EXCLUDED.description, known.description), coalesce(EXCLUDED.speed, known.speed))",
        )
        .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.2.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.3.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.4).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn write_counters(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.counters.is_empty() {
            return Ok(());
        }
        let bytes =
            |of: fn(&Counters) -> u64| self.counters.iter().map(|row| of(row.2).to_string()).collect::<Vec<_>>();
        let counts = |of: fn(&Counters) -> u64| self.counters.iter().map(|row| bigint(of(row.2))).collect::<Vec<_>>();
        sqlx::query(
            "INSERT INTO interface_counters AS known (exporter_id, interface, hour, received, \
             in_bytes, in_packets, in_discards, in_errors, out_bytes, out_packets, out_discards, out_errors) \
             SELECT exporter, interface, hour, received, ib::numeric, ip, id, ie, ob::numeric, op, od, oe FROM \
             unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::bigint[], \
             $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[]) \
             AS told (exporter, interface, hour, received, ib, ip, id, ie, ob, op, od, oe) \
             ON CONFLICT (exporter_id, interface, hour) DO UPDATE SET received = EXCLUDED.received, \
             in_bytes = EXCLUDED.in_bytes, in_packets = EXCLUDED.in_packets, in_discards = EXCLUDED.in_discards, \
             in_errors = EXCLUDED.in_errors, out_bytes = EXCLUDED.out_bytes, out_packets = EXCLUDED.out_packets, \
             out_discards = EXCLUDED.out_discards, out_errors = EXCLUDED.out_errors \
             WHERE EXCLUDED.received >= known.received AND \
             (known.in_bytes, known.in_packets, known.in_discards, known.in_errors, \
             known.out_bytes, known.out_packets, known.out_discards, known.out_errors) IS DISTINCT FROM \
             (EXCLUDED.in_bytes, EXCLUDED.in_packets, EXCLUDED.in_discards, EXCLUDED.in_errors, \
             EXCLUDED.out_bytes, EXCLUDED.out_packets, EXCLUDED.out_discards, EXCLUDED.out_errors)",
        )
        .bind(self.counters.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(self.counters.iter().map(|row| i64::from(row.2.interface)).collect::<Vec<_>>())
        .bind(self.counters.iter().map(|row| row.1.hour().to_utc()).collect::<Vec<_>>())
        .bind(self.counters.iter().map(|row| row.1.to_utc()).collect::<Vec<_>>())
        .bind(bytes(|counters| counters.in_bytes))
        .bind(counts(|counters| counters.in_packets))
        .bind(counts(|counters| counters.in_discards))
        .bind(counts(|counters| counters.in_errors))
        .bind(bytes(|counters| counters.out_bytes))
        .bind(counts(|counters| counters.out_packets))
        .bind(counts(|counters| counters.out_discards))
        .bind(counts(|counters| counters.out_errors))
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn write_applications(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.applications.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO applications AS known (exporter_id, application_id, name, description) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) \
             ON CONFLICT (exporter_id, application_id) DO UPDATE SET name = coalesce(EXCLUDED.name, known.name), \
             description = coalesce(EXCLUDED.description, known.description), updated_at = now() \
             WHERE (known.name, known.description) IS DISTINCT FROM \
             (coalesce(EXCLUDED.name, known.name), coalesce(EXCLUDED.description, known.description))",
        )
        .bind(self.applications.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(self.applications.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(self.applications.iter().map(|row| row.2.as_deref()).collect::<Vec<_>>())
        .bind(self.applications.iter().map(|row| row.3.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn write_vrfs(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.vrfs.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO vrfs AS known (exporter_id, vrf, name) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) \
             ON CONFLICT (exporter_id, vrf) DO UPDATE SET name = EXCLUDED.name, updated_at = now() \
             WHERE known.name IS DISTINCT FROM coalesce(EXCLUDED.name, known.name)",
        )
        .bind(self.vrfs.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(self.vrfs.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(self.vrfs.iter().map(|row| row.2.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn write_statistics(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.statistics.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO exporter_statistics AS known (exporter_id, observation_domain, statistic, value, received) \
             SELECT exporter, domain, statistic, value::numeric, received FROM \
             unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[]) \
             AS told (exporter, domain, statistic, value, received) \
             ON CONFLICT (exporter_id, observation_domain, statistic) DO UPDATE SET value = EXCLUDED.value, \
             received = EXCLUDED.received WHERE EXCLUDED.received >= known.received AND known.value <> EXCLUDED.value",
        )
        .bind(self.statistics.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(self.statistics.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(self.statistics.iter().map(|row| row.2).collect::<Vec<_>>())
        .bind(self.statistics.iter().map(|row| row.3.as_str()).collect::<Vec<_>>())
        .bind(self.statistics.iter().map(|row| row.4.to_utc()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Adds up unknown elements, and gives what was refused, by exporter and hour.
pub(super) async fn write_unknown(
    connection: &mut PgConnection,
    elements: &UnknownElements,
) -> Result<Vec<Loss>, StoreError> {
    if elements.is_empty() {
        return Ok(Vec::new());
    }
    let written: Vec<(i64, i64, i32)> = sqlx::query_as(
        "INSERT INTO unknown_elements AS known (exporter_id, enterprise, element, records, last_seen) \
         SELECT exporter_id, enterprise, element, records, last_seen FROM (SELECT told.*, \
         known.exporter_id IS NOT NULL AS is_known, coalesce(present.count, 0) + count(*) \
         FILTER (WHERE known.exporter_id IS NULL) OVER (PARTITION BY exporter_id ORDER BY enterprise, element) AS place \
         FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::timestamptz[]) \
         AS told (exporter_id, enterprise, element, records, last_seen) \
         LEFT JOIN unknown_elements AS known USING (exporter_id, enterprise, element) \
         LEFT JOIN (SELECT exporter_id, count(*) FROM unknown_elements WHERE exporter_id = ANY($1) GROUP BY 1) \
         AS present USING (exporter_id)) AS told WHERE is_known OR place <= $6 \
         ORDER BY exporter_id, enterprise, element \
         ON CONFLICT (exporter_id, enterprise, element) DO UPDATE SET records = known.records + EXCLUDED.records, \
         last_seen = greatest(known.last_seen, EXCLUDED.last_seen) RETURNING exporter_id, enterprise, element",
    )
    .bind(elements.keys().map(|key| i64::from(key.0)).collect::<Vec<_>>())
    .bind(elements.keys().map(|key| i64::from(key.1)).collect::<Vec<_>>())
    .bind(elements.keys().map(|key| i32::from(key.2)).collect::<Vec<_>>())
    .bind(elements.values().map(|value| bigint(value.0)).collect::<Vec<_>>())
    .bind(elements.values().map(|value| value.1.to_utc()).collect::<Vec<_>>())
    .bind(UNKNOWN_ELEMENTS as i64)
    .fetch_all(connection)
    .await?;
    let written: BTreeSet<_> = written.into_iter().collect();
    let mut lost = BTreeMap::new();
    for (&(exporter_id, enterprise, element), (_, last_seen)) in elements {
        if !written.contains(&(exporter_id.into(), enterprise.into(), element.into())) {
            let count = lost.entry((exporter_id, last_seen.hour())).or_insert(0i64);
            *count = count.saturating_add(1);
        }
    }
    Ok(losses(lost))
}

impl Database {
    /// Deletes counters of interfaces of hours before `oldest`, some at once. Returns how many rows went.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn trim_counters(&self, oldest: Timestamp) -> Result<u64, StoreError> {
        let trimmed = sqlx::query(
            "DELETE FROM interface_counters WHERE ctid = ANY(ARRAY(SELECT ctid FROM interface_counters \
             WHERE hour < $1 ORDER BY hour LIMIT $2))",
        )
        .bind(oldest.to_utc())
        .bind(TRIMMED)
        .execute(&self.writers)
        .await?;
        Ok(trimmed.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_everything_but_nul() {
        let hostile = "=HYPERLINK(\"http://x\")<script>\u{202e}é\n\t'; DROP TABLE flows; --\\";
        assert_eq!(text(hostile), hostile);
        assert_eq!(text("a\0b\0"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn identifiers_beyond_the_middle_are_kept_apart() {
        assert_eq!([0, 1 << 63, u64::MAX].map(identifier), [0, i64::MIN, -1]);
    }
}
