//! Counters and gauges, and the text in which `/metrics` shows them.
//!
//! Each part of the house owns a struct of its counters and registers them once; counting is one relaxed atomic
//! addition. This module knows no part by name, and it is the only home of the Prometheus client.

pub use prometheus_client::encoding::EncodeLabelSet;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Metric;

/// Everything that `/metrics` shows. Names get the prefix `flowledger_`; counters get the suffix `_total`.
#[derive(Debug)]
pub struct Registry(prometheus_client::registry::Registry);

impl Default for Registry {
    fn default() -> Self {
        Self(prometheus_client::registry::Registry::with_prefix("flowledger"))
    }
}

impl Registry {
    /// Shows `metric` under `name` (without prefix and suffix) with `help`, a phrase without a full stop.
    pub fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    /// All metrics in the OpenMetrics text format, version 1.0.0.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail; an encoder error would only cut the text short.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_shows_with_prefix_suffix_and_help() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("collector_datagrams", "Datagrams received", counter.clone());
        counter.inc_by(3);
        let text = registry.encode();
        assert!(text.contains("# HELP flowledger_collector_datagrams Datagrams received."), "{text}");
        assert!(text.contains("flowledger_collector_datagrams_total 3"), "{text}");
    }
}
