//! What exporters tell about themselves beside flows: interfaces, applications, VRFs, statistics.
//!
//! `wire` reads facts from options data and sFlow counter samples, `store` keeps the latest of each; neither knows the other.
//! Texts come from the wire: they are cleaned where they are read, and still never to be trusted in a page, a mail or a sheet.

/// One fact about an exporter. A later fact of the same [`Fact::key`] replaces an earlier one; what is `None` in the later
/// one stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// An interface.
    Interface {
        /// SNMP index.
        interface: u32,
        /// Short name, like `Gi0/1`.
        name: Option<String>,
        /// What people wrote about it.
        description: Option<String>,
        /// Bits a second.
        speed: Option<u64>,
    },
    /// The counters of an interface.
    Counters(Counters),
    /// An application that `application_id` names.
    Application {
        /// The value of the field `application_id`.
        application_id: u64,
        /// Short name, like `http`.
        name: Option<String>,
        /// A longer one.
        description: Option<String>,
    },
    /// A VRF that `ingress_vrf` and `egress_vrf` name.
    Vrf {
        /// The value of the fields.
        vrf: u32,
        /// Its name.
        name: Option<String>,
    },
    /// A number about the exporter's own work, counted since it started.
    Statistic {
        /// The observation domain it is about.
        observation_domain: u32,
        /// IANA's name of the information element, like `notSentFlowTotalCount`.
        statistic: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Counters of an interface since the exporter started (RFC 2863 ifTable, as sFlow's generic counters carry them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SNMP index.
    pub interface: u32,
    /// Bytes received.
    pub in_bytes: u64,
    /// Packets received, of all kinds.
    pub in_packets: u64,
    /// Packets received and dropped though nothing was wrong with them.
    pub in_discards: u64,
    /// Packets received damaged.
    pub in_errors: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// Packets sent, of all kinds.
    pub out_packets: u64,
    /// Packets dropped instead of being sent.
    pub out_discards: u64,
    /// Packets that could not be sent.
    pub out_errors: u64,
}

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// [`Fact::Interface`], by index.
    Interface(u32),
    /// [`Fact::Counters`], by index.
    Counters(u32),
    /// [`Fact::Application`].
    Application(u64),
    /// [`Fact::Vrf`].
    Vrf(u32),
    /// [`Fact::Statistic`], by domain and name.
    Statistic(u32, &'static str),
}

impl Fact {
    /// What the fact is about.
    pub const fn key(&self) -> FactKey {
        match self {
            Self::Interface { interface, .. } => FactKey::Interface(*interface),
            Self::Counters(counters) => FactKey::Counters(counters.interface),
            Self::Application { application_id, .. } => FactKey::Application(*application_id),
            Self::Vrf { vrf, .. } => FactKey::Vrf(*vrf),
            Self::Statistic { observation_domain, statistic, .. } => FactKey::Statistic(*observation_domain, statistic),
        }
    }

    /// This fact with what only the `earlier` one of the same key told.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        match (self, earlier) {
            (
                Self::Interface { interface, name, description, speed },
                Self::Interface { name: old_name, description: old_description, speed: old_speed, .. },
            ) => Self::Interface {
                interface,
                name: name.or(old_name),
                description: description.or(old_description),
                speed: speed.or(old_speed),
            },
            (
                Self::Application { application_id, name, description },
                Self::Application { name: old_name, description: old_description, .. },
            ) => Self::Application {
                application_id,
                name: name.or(old_name),
                description: description.or(old_description),
            },
            (Self::Vrf { vrf, name }, Self::Vrf { name: old, .. }) => Self::Vrf { vrf, name: name.or(old) },
            (later, _) => later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_fact_keeps_what_only_the_earlier_one_told() {
        let named = |name: Option<&str>, description: Option<&str>| Fact::Interface {
            interface: 7,
            name: name.map(str::to_owned),
            description: description.map(str::to_owned),
            speed: None,
        };
        let merged = named(None, Some("uplink")).after(named(Some("Gi0/1"), Some("old")));
        assert_eq!(merged, named(Some("Gi0/1"), Some("uplink")));
        assert_eq!(merged.key(), FactKey::Interface(7));
        let statistic =
            |value| Fact::Statistic { observation_domain: 1, statistic: "exportedFlowRecordTotalCount", value };
        assert_eq!(statistic(2).after(statistic(1)), statistic(2));
    }
}
