//! The rows of an answer as CSV (RFC 4180), the same bytes for a report's file, its mail and the API.
//!
//! The head is `rank`, the dimensions, then `bytes,packets,flows,first_seen,last_seen,share`. Times are RFC 3339 in the
//! zone that is given; a missing thing is an empty cell. By first or last moment, that moment is the dimension and stands once. A cell of text that a spreadsheet would take for a formula gets a
//! quote in front. This module neither asks nor delivers.

use super::error::ReportError;
use crate::clock::Timestamp;
use crate::flow::segment::Totals;
use crate::flow::value::Value;
use crate::query::{Order, TopAnswer};
use chrono::SecondsFormat;
use chrono_tz::Tz;

/// The columns after the rank and the dimensions, less a moment that is a dimension.
pub const COLUMNS: [&str; 6] = ["bytes", "packets", "flows", "first_seen", "last_seen", "share"];

/// `answer` as CSV. `names` heads the columns of the dimensions, in their order; `order` is what the share is a share of.
///
/// # Errors
/// [`ReportError::Render`] when a row has more or fewer values than there are names.
pub fn render(names: &[&str], order: Order, answer: &TopAnswer, zone: Tz) -> Result<Vec<u8>, ReportError> {
    let problem = |error: &dyn std::fmt::Display| ReportError::Render(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let after = COLUMNS.into_iter().filter(|column| !names.contains(column));
    let head = ["rank"].into_iter().chain(names.iter().copied()).chain(after);
    writer.write_record(head).map_err(|error| problem(&error))?;
    for (row, rank) in answer.rows.iter().zip(1_u64..) {
        let mut record = vec![rank.to_string()];
        record.extend(row.key.iter().map(|value| cell(value, zone)));
        record.extend([row.totals.bytes, row.totals.packets, row.totals.flows].map(|sum| sum.to_string()));
        let moments = [("first_seen", row.first_seen), ("last_seen", row.last_seen)].into_iter();
        let moments = moments.filter(|(name, _)| !names.contains(name));
        record.extend(moments.map(|(_, moment)| moment.map_or_else(String::new, |at| time(at, zone))));
        let share = share(order, &row.totals, &answer.totals);
        record.push(share.map_or_else(String::new, |share| format!("{share:.6}")));
        writer.write_record(&record).map_err(|error| problem(&error))?;
    }
    writer.into_inner().map_err(|error| problem(&error))
}

/// What part of `whole` the `part` is, by what rows are ranked by: 0 to 1; `None` of nothing.
pub fn share(order: Order, part: &Totals, whole: &Totals) -> Option<f64> {
    let (part, whole) = (ranked(order, part), ranked(order, whole));
    (whole != 0).then(|| part as f64 / whole as f64)
}

/// The sum that rows are ranked by.
pub const fn ranked(order: Order, totals: &Totals) -> u64 {
    match order {
        Order::Bytes => totals.bytes,
        Order::Packets => totals.packets,
        Order::Flows => totals.flows,
    }
}

/// `moment` as RFC 3339 in `zone`, with a fraction of a second only where it has one.
pub fn time(moment: Timestamp, zone: Tz) -> String {
    moment.to_utc().with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// One value as a cell.
pub fn cell(value: &Value, zone: Tz) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Time(moment) => time(*moment, zone),
        Value::Address(_) | Value::Mac(_) => harmless(value.to_string()),
    }
}

/// Text that no spreadsheet runs: what begins (after blanks) like a formula gets a quote in front.
fn harmless(text: String) -> String {
    let first = text.trim_start_matches(' ').chars().next();
    if first.is_some_and(|first| matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r')) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Counted;
    use crate::query::{Completeness, Source, TopRow};
    use chrono_tz::Europe::Berlin;

    fn answer(rows: Vec<TopRow>) -> TopAnswer {
        let totals = Totals { bytes: 400, packets: 8, flows: 4 };
        let (completeness, source) = (Completeness::default(), Source::default());
        TopAnswer { groups: rows.len() as u64, rows, totals, completeness, source, counted: Counted::default() }
    }

    fn row(key: Vec<Value>, bytes: u64) -> TopRow {
        let seen = Timestamp::from_micros(1_795_392_000_000_000);
        let totals = Totals { bytes, packets: 2, flows: 1 };
        TopRow { key, totals, first_seen: Some(seen), last_seen: Some(seen.plus(1_500_000)) }
    }

    #[test]
    fn rows_are_ranked_cells_in_the_order_of_the_head() {
        let mut second = row(vec![Value::Address("2001:db8::7".parse().unwrap())], 100);
        (second.first_seen, second.last_seen) = (None, None);
        let rows = vec![row(vec![Value::Address("10.0.0.7".parse().unwrap())], 300), second];
        let bytes = render(&["dst_ip"], Order::Bytes, &answer(rows), Berlin).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share\n\
             1,10.0.0.7,300,2,1,2026-11-23T01:00:00+01:00,2026-11-23T01:00:01.500+01:00,0.750000\n\
             2,2001:db8::7,100,2,1,,,0.250000\n"
        );
    }

    #[test]
    fn a_moment_that_is_a_dimension_stands_once_and_a_share_of_nothing_is_empty() {
        let seen = Timestamp::from_micros(1_795_392_000_000_000);
        let mut answer = answer(vec![row(vec![Value::Time(seen)], 0)]);
        answer.totals.bytes = 0;
        let bytes = render(&["first_seen"], Order::Bytes, &answer, chrono_tz::UTC).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "rank,first_seen,bytes,packets,flows,last_seen,share\n\
             1,2026-11-23T00:00:00Z,0,2,1,2026-11-23T00:00:01.500Z,\n"
        );
    }

    #[test]
    fn an_answer_without_rows_is_its_head_and_a_ragged_row_is_refused() {
        let bytes = render(&["src_ip", "dst_port"], Order::Flows, &answer(vec![]), Berlin).unwrap();
        let head = "rank,src_ip,dst_port,bytes,packets,flows,first_seen,last_seen,share\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), head);
        assert!(render(&["dst_ip"], Order::Bytes, &answer(vec![row(vec![], 1)]), Berlin).is_err());
    }

    #[test]
    fn a_share_is_of_what_rows_are_ranked_by() {
        let part = Totals { bytes: 1, packets: 2, flows: 3 };
        let whole = Totals { bytes: 4, packets: 4, flows: 4 };
        for (order, expected) in [(Order::Bytes, 0.25), (Order::Packets, 0.5), (Order::Flows, 0.75)] {
            assert_eq!(share(order, &part, &whole), Some(expected));
        }
        assert_eq!(share(Order::Bytes, &part, &Totals::default()), None);
    }

    #[test]
    fn text_that_looks_like_a_formula_is_quoted() {
        for start in ["=1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=HYPERLINK(\"http://x\",\"y\")"] {
            for blanks in ["", " ", "   "] {
                let text = format!("{blanks}{start}");
                assert_eq!(harmless(text.clone()), format!("'{text}"));
            }
        }
        for text in ["", "10.0.0.1", "a=b", "::1"] {
            assert_eq!(harmless(text.to_owned()), text);
        }
    }
}
