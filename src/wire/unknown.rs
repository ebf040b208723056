//! Information elements that data records carry and the field catalogue has no field for: counted, so that users can tell
//! us which field they miss.

/// An element without a field, and how many records of an exporter carried it since the last count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownElement {
    /// The exporter.
    pub exporter_id: u32,
    /// The private enterprise number; 0 is IANA, and all of NetFlow v9.
    pub enterprise: u32,
    /// The information element.
    pub element: u16,
    /// Records that carried it.
    pub records: u64,
}
