//! What counters of sampling exporters mean.

/// `counter` times a sampling interval. 0 is no interval and means the same as none.
pub fn scaled(counter: u64, interval: u32) -> u64 {
    counter.saturating_mul(interval.max(1).into())
}

/// The flows that a record of `flows` flows counts for among the sampled ones.
pub fn sampled(flows: u64, interval: u32) -> u64 {
    if interval > 1 { flows.max(1) } else { 0 }
}
