//! Elements that exporters send and no field takes, counted so that users can tell us.

use super::sessions::Sessions;
use std::collections::BTreeMap;

/// An element without a field, and how many records had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownElement {
    /// The exporter.
    pub exporter_id: u32,
    /// The private enterprise number; 0 is IANA.
    pub enterprise: u32,
    /// The information element.
    pub element: u16,
    /// Records since it was last asked for.
    pub records: u64,
}

/// Those since the last call, of the sessions that changed since their state was last taken.
pub(super) fn take(sessions: &mut Sessions) -> Vec<UnknownElement> {
    let mut counts = BTreeMap::<(u32, u32, u16), u64>::new();
    sessions.drain_unknown(|exporter_id, template, records| {
        for &(enterprise, element) in &template.plan.unknown {
            let count = counts.entry((exporter_id, enterprise, element)).or_default();
            *count = count.saturating_add(records);
        }
    });
    let element =
        |((exporter_id, enterprise, element), records)| UnknownElement { exporter_id, enterprise, element, records };
    counts.into_iter().map(element).collect()
}
