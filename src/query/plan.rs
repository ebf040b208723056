//! From a request to what must be read.

use super::QueryError;
use super::answer::{TopRequest, Window};
use super::group::{MAX_DIMENSIONS, WEIGHT_FIELDS};
use crate::filter::Expression;
use crate::flow::fields::{Dimension, Field};
use crate::store::snapshot::SegmentHeader;

/// The most rows that can be asked for.
pub const MAX_LIMIT: usize = 10_000;
/// A worker loads about this many flows at a time: enough that the database's answer to one statement lasts while the next
/// is on its way, few enough that little is held.
const LOAD_FLOWS: u64 = 4 * 65_536;
/// A worker loads at most this many segments at a time.
const LOAD_SEGMENTS: usize = 256;

/// Refuses what cannot be answered.
pub(super) fn check(request: &TopRequest) -> Result<(), QueryError> {
    let refuse = |parameter, message: String| Err(QueryError::Request { parameter, message });
    check_window(&request.window)?;
    let dimensions = request.by.len();
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return refuse("by", format!("{dimensions} fields to group by; give 1 to {MAX_DIMENSIONS}"));
    }
    let pairs: Vec<&str> = request
        .by
        .iter()
        .filter(|dimension| matches!(dimension, Dimension::Either { .. }))
        .map(|dimension| dimension.name())
        .collect();
    if pairs.len() > 1 {
        return refuse("by", format!("{} each mean either side of a flow; give one of them", pairs.join(" and ")));
    }
    for (index, dimension) in request.by.iter().enumerate() {
        if request.by.iter().take(index).any(|earlier| earlier == dimension) {
            return refuse("by", format!("{} stands twice", dimension.name()));
        }
    }
    if request.limit == 0 || request.limit > MAX_LIMIT {
        return refuse("limit", format!("{} rows; ask for 1 to {MAX_LIMIT}", request.limit));
    }
    Ok(())
}

/// Refuses a window in which nothing can be.
pub(super) fn check_window(window: &Window) -> Result<(), QueryError> {
    if window.from < window.to {
        return Ok(());
    }
    let message = format!("the window ends at {} but begins at {}; let it end later", window.to, window.from);
    Err(QueryError::Request { parameter: "to", message })
}

/// The fields that the sums and keys of a request need, each once.
pub(super) fn fields_of(by: &[Dimension]) -> Vec<Field> {
    let mut fields = WEIGHT_FIELDS.to_vec();
    for dimension in by {
        match *dimension {
            Dimension::One(field) => fields.push(field),
            Dimension::Either { source, destination, .. } => fields.extend([source, destination]),
        }
    }
    sorted(fields)
}

/// The fields a filter needs, each once.
pub(super) fn fields_of_filter(filter: Option<&Expression>) -> Vec<Field> {
    sorted(filter.map(Expression::fields).unwrap_or_default())
}

fn sorted(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// What one worker loads with one statement.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// The segments.
    pub(super) headers: Vec<SegmentHeader>,
    /// The fields.
    pub(super) fields: Vec<Field>,
}

/// Cuts the segments, which are in the order of time, into loads of `fields`. Where a segment reaches beyond the window,
/// the receive times are needed too.
pub(super) fn loads(headers: &[SegmentHeader], window: &Window, fields: &[Field]) -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    let mut flows = 0u64;
    for header in headers {
        if flows >= LOAD_FLOWS || loads.last().is_none_or(|load| load.headers.len() >= LOAD_SEGMENTS) {
            loads.push(Load { headers: Vec::new(), fields: fields.to_vec() });
            flows = 0;
        }
        flows = flows.saturating_add(header.rows.into());
        let Some(load) = loads.last_mut() else { continue };
        load.headers.push(*header);
        let inside = window.from <= header.received_first && header.received_last < window.to;
        if !inside && !load.fields.contains(&Field::Received) {
            load.fields.insert(0, Field::Received);
        }
    }
    loads
}
