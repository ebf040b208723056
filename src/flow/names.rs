//! Names that people use for numbers: IANA protocol numbers and events of firewalls.
//!
//! From IANA's registry "Assigned Internet Protocol Numbers", those that occur in flows. Where a filter gives the start
//! of a name, the lowest number whose name begins so is meant, as nfdump has it.

/// Protocol names in lower case, by number, ascending.
static PROTOCOLS: &[(u8, &str)] = &[
    (0, "hopopt"),
    (1, "icmp"),
    (2, "igmp"),
    (3, "ggp"),
    (4, "ipip"),
    (5, "st"),
    (6, "tcp"),
    (7, "cbt"),
    (8, "egp"),
    (9, "igp"),
    (17, "udp"),
    (27, "rdp"),
    (33, "dccp"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmp6"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (88, "eigrp"),
    (89, "ospf"),
    (94, "ipip2"),
    (97, "etherip"),
    (103, "pim"),
    (108, "ipcomp"),
    (112, "vrrp"),
    (115, "l2tp"),
    (132, "sctp"),
    (136, "udplite"),
];

/// The name of protocol `number`, if it has one here.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The protocol called `name` in any case, or the lowest-numbered one whose name begins with it.
pub fn protocol_number(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    let exact = PROTOCOLS.iter().find(|(_, known)| *known == name);
    exact.or_else(|| PROTOCOLS.iter().find(|(_, known)| !name.is_empty() && known.starts_with(&name))).map(|row| row.0)
}

/// The number of a firewall's event (IANA, IPFIX element 233) by nfdump's name for it, in any case.
pub fn firewall_event_number(name: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 7] =
        [("ignore", 0), ("create", 1), ("delete", 2), ("term", 2), ("deny", 3), ("alert", 4), ("update", 5)];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_by_name_case_and_prefix() {
        assert_eq!(protocol_number("TCP"), Some(6));
        assert_eq!(protocol_number("icmp"), Some(1));
        assert_eq!(protocol_number("icmp6"), Some(58));
        assert_eq!(protocol_number("osp"), Some(89));
        assert_eq!(protocol_number(""), None);
        assert_eq!(protocol_number("nonsense"), None);
        assert_eq!(protocol_name(17), Some("udp"));
        assert!(PROTOCOLS.is_sorted());
        assert_eq!((firewall_event_number("Deny"), firewall_event_number("den")), (Some(3), None));
    }
}
