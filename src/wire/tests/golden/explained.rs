//! Every difference between our answers and others', with its reason.

const FAR: &str = "the flow's times are more than a day from the export, which the exporter's clock cannot mean";
const WAITED: &str = "data that came before its template waited for it; tshark reads each datagram once";
const COUNT: &str = "the header's count is too small; sets are read by their length, as RFC 3954 has them";
const SECTION: &str = "element 315 holds the packet's first bytes, which akvorado dissects and we do not";

/// Whose answer, which case, what differs, and why ours is right or as good.
pub(super) const EXPLAINED: &[(&str, &str, &str, &str)] = &[
    ("akvorado", "akvorado/ipfix-srv6", "src_ip", SECTION),
    ("akvorado", "akvorado/ipfix-srv6", "dst_ip", SECTION),
    ("akvorado", "akvorado/ipfix-srv6", "protocol", SECTION),
    ("akvorado", "akvorado/ipfix-srv6", "max_ttl", SECTION),
    ("akvorado", "akvorado/ipfix-srv6", "in_bytes", SECTION),
    ("akvorado", "akvorado/ipfix-srv6", "in_packets", SECTION),
    ("akvorado", "akvorado/physical-interfaces", "next_hop", "the record has none, for which akvorado writes zeros"),
    (
        "akvorado",
        "akvorado/v9-asr-options-and-data",
        "next_hop",
        "the record has only BGP's next hop, which is a field of its own here",
    ),
    ("beats", "logstash/netflow-9-invalid-01", "records", COUNT),
    ("tshark", "logstash/netflow-9-invalid-01", "records", COUNT),
    ("tshark", "graylog/netflow9", "records", COUNT),
    ("tshark", "beats/ipfix-cisco-reversed", "records", WAITED),
    ("tshark", "graylog/nprobe-netflow9-4", "records", WAITED),
    (
        "tshark",
        "logstash/netflow-9-h3c",
        "records",
        "tshark takes the first record for malformed and stops; beats reads all, as we do",
    ),
    ("tshark", "logstash/netflow-9-fortigate-fortios-5-2-1", "first_seen", FAR),
    ("tshark", "logstash/netflow-9-fortigate-fortios-5-2-1", "last_seen", FAR),
    ("tshark", "netflow_parser/it-parses-v5-packet", "first_seen", FAR),
    ("tshark", "netflow_parser/it-parses-v5-packet", "last_seen", FAR),
    ("tshark", "telegraf/netflow-v9-example", "first_seen", FAR),
    ("tshark", "telegraf/netflow-v9-example", "last_seen", FAR),
    (
        "truth",
        "generated/fprobe-v5-lo",
        "sums",
        "fprobe was ended before the last packet of one flow; tshark reads the same counters",
    ),
];
