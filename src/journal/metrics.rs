//! What the journal counts.

use crate::metrics::{Counter, Gauge, Registry};

/// The journal's counters and gauges.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Records appended.
    pub records: Counter<u64>,
    /// Datagrams and messages of streams among them.
    pub datagrams: Counter<u64>,
    /// Bytes of records appended.
    pub bytes: Counter<u64>,
    /// Datagrams dropped because the journal was full or could not be written.
    pub dropped: Counter<u64>,
    /// Those of them, and of the kernel's, that no record tells of yet, since there was no room for it.
    pub untold: Gauge,
    /// Records found damaged when read.
    pub corrupt: Counter<u64>,
    /// Headers of files, and files `id`, found damaged at the start. They cost no record.
    pub headers_damaged: Counter<u64>,
    /// Writes, creations and truncations that failed.
    pub write_errors: Counter<u64>,
    /// Flushes to the disk that failed.
    pub sync_errors: Counter<u64>,
    /// Segment files.
    pub segments: Gauge,
    /// Bytes that all segment files take.
    pub size_bytes: Gauge,
    /// Bytes appended that are not known to be on disk, those of files that failed to flush among them.
    pub unsynced_bytes: Gauge,
    /// The longest that appended bytes have waited for the disk since the start, in milliseconds.
    pub unsynced_ms_max: Gauge,
}

impl Metrics {
    /// Shows them all.
    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name, help, metric: &Counter<u64>| registry.register(name, help, metric.clone());
        counter("journal_records", "Records appended to the journal", &self.records);
        counter("journal_datagrams", "Datagrams and messages appended to the journal", &self.datagrams);
        counter("journal_bytes", "Bytes of records appended to the journal", &self.bytes);
        counter("journal_dropped_datagrams", "Datagrams dropped because the journal was full", &self.dropped);
        counter("journal_corrupt_records", "Journal records found damaged when read", &self.corrupt);
        counter("journal_headers_damaged", "Damaged headers and ids of the journal's files", &self.headers_damaged);
        counter("journal_write_errors", "Writes to the journal that failed", &self.write_errors);
        counter("journal_sync_errors", "Flushes of the journal to the disk that failed", &self.sync_errors);
        let mut gauge = |name, help, metric: &Gauge| registry.register(name, help, metric.clone());
        gauge("journal_untold_datagrams", "Dropped datagrams that the journal could not tell of yet", &self.untold);
        gauge("journal_segments", "Segment files of the journal", &self.segments);
        gauge("journal_size_bytes", "Bytes that the journal's files take", &self.size_bytes);
        gauge("journal_unsynced_bytes", "Bytes appended that a power cut could take", &self.unsynced_bytes);
        gauge("journal_unsynced_ms_max", "Longest wait of appended bytes for the disk in ms", &self.unsynced_ms_max);
    }
}
