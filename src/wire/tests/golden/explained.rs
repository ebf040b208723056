//! Every difference between our answers and others', with its reason.

const FAR: &str = "the flow's times are more than a day from the export, which the exporter's clock cannot mean";
const WAITED: &str = "data that came before its template waited for it; tshark reads each datagram once";
const COUNT: &str = "the header's count is too small; sets are read by their length, as RFC 3954 has them";
const INNER: &str =
    "akvorado takes the packet inside the tunnel for the flow; ours is the outer one, with the inner one beside it";
const DISSECTED: &str = "the packet in the record tells it, of which the decode kept addresses and types only";
const SEEN: &str = "a packet without a moment of its own was seen when it was received, as in sFlow";
const OPTIONS: &str = "the exporter tells its interval in options data, which tshark does not carry over to the flows";
const EVENTS: &str = "a connection counts as a flow when it ends or is denied, and as none when it begins";
const CUT: &str = "fprobe was ended before the last packets of one flow; tshark reads the same counters";
const VENDOR: &str = "tshark 4.0.17 has no name for the vendor's element; beats and logstash agree with us";

/// Whose answer, which case, what differs, and why ours is right or as good.
pub(super) const EXPLAINED: &[(&str, &str, &str, &str)] = &[
    ("akvorado", "akvorado/ipfix-srv6", "src_ip", INNER),
    ("akvorado", "akvorado/ipfix-srv6", "dst_ip", INNER),
    ("akvorado", "akvorado/ipfix-srv6", "protocol", INNER),
    ("akvorado", "akvorado/ipfix-srv6", "max_ttl", INNER),
    ("akvorado", "akvorado/ipfix-srv6", "in_bytes", INNER),
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
    ("tshark", "netflow_parser/it-parses-v7-packet", "first_seen", FAR),
    ("tshark", "netflow_parser/it-parses-v7-packet", "last_seen", FAR),
    ("tshark", "telegraf/netflow-v9-example", "first_seen", FAR),
    ("tshark", "telegraf/netflow-v9-example", "last_seen", FAR),
    ("tshark", "akvorado/ipfix-srv6", "in_bytes", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "in_packets", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "src_tos", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "flow_label", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "min_ttl", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "max_ttl", DISSECTED),
    ("tshark", "akvorado/ipfix-srv6", "first_seen", SEEN),
    ("tshark", "akvorado/ipfix-srv6", "last_seen", SEEN),
    ("tshark", "akvorado/mpls", "sampling_interval", OPTIONS),
    ("tshark", "akvorado/physical-interfaces", "sampling_interval", OPTIONS),
    ("tshark", "akvorado/v9-asr-options-and-data", "sampling_interval", OPTIONS),
    ("tshark", "graylog/netflow9", "sampling_interval", OPTIONS),
    ("tshark", "netgauze/104-traffic-00", "sampling_interval", OPTIONS),
    ("tshark", "logstash/ipfix-barracuda-firewall", "aggregated_flows", EVENTS),
    ("tshark", "logstash/netflow-9-cisco-asa", "aggregated_flows", EVENTS),
    ("tshark", "logstash/netflow-9-palo-alto-1-flowset-in-large-zero-filled-packet", "aggregated_flows", EVENTS),
    ("tshark", "logstash/ipfix-nokia-bras", "ingress_vrf", VENDOR),
    ("tshark", "logstash/ipfix-nokia-bras", "egress_vrf", VENDOR),
    ("tshark", "logstash/ipfix-viptela-with-vpn-id", "ingress_vrf", VENDOR),
    ("tshark", "logstash/ipfix-yaf-basic-with-applabel", "application_id", VENDOR),
    ("truth", "generated/fprobe-v1-lo", "sums", CUT),
    ("truth", "generated/fprobe-v5-lo", "sums", CUT),
];
