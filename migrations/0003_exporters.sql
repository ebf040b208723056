-- What exporters tell beyond plain flows: sampling, NAT, firewall events, tunnels, MPLS, VRFs and applications as fields;
-- interfaces, applications, VRFs and statistics as catalogue; data that waits for its template.

ALTER TABLE flows
    ADD COLUMN sampling_interval bigint,
    ADD COLUMN previous_as bigint,
    ADD COLUMN next_as bigint,
    ADD COLUMN mpls_label_1 bigint,
    ADD COLUMN mpls_label_2 bigint,
    ADD COLUMN mpls_label_3 bigint,
    ADD COLUMN ethernet_type integer,
    ADD COLUMN customer_vlan integer,
    ADD COLUMN layer2_segment_id bigint,
    ADD COLUMN flow_label bigint,
    ADD COLUMN min_ttl smallint,
    ADD COLUMN max_ttl smallint,
    ADD COLUMN inner_src_ip inet,
    ADD COLUMN inner_dst_ip inet,
    ADD COLUMN inner_protocol smallint,
    ADD COLUMN ingress_vrf bigint,
    ADD COLUMN egress_vrf bigint,
    ADD COLUMN application_id bigint,
    ADD COLUMN flow_id bigint,
    ADD COLUMN flow_end_reason smallint,
    ADD COLUMN firewall_event smallint,
    ADD COLUMN firewall_extended_event integer,
    ADD COLUMN nat_event smallint,
    ADD COLUMN post_nat_src_ip inet,
    ADD COLUMN post_nat_dst_ip inet,
    ADD COLUMN post_nat_src_port integer,
    ADD COLUMN post_nat_dst_port integer,
    ADD COLUMN port_block_start integer,
    ADD COLUMN port_block_end integer;

ALTER TABLE flow_segments
    ADD COLUMN sampling_interval bytea,
    ADD COLUMN previous_as bytea,
    ADD COLUMN next_as bytea,
    ADD COLUMN mpls_label_1 bytea,
    ADD COLUMN mpls_label_2 bytea,
    ADD COLUMN mpls_label_3 bytea,
    ADD COLUMN ethernet_type bytea,
    ADD COLUMN customer_vlan bytea,
    ADD COLUMN layer2_segment_id bytea,
    ADD COLUMN flow_label bytea,
    ADD COLUMN min_ttl bytea,
    ADD COLUMN max_ttl bytea,
    ADD COLUMN inner_src_ip bytea,
    ADD COLUMN inner_dst_ip bytea,
    ADD COLUMN inner_protocol bytea,
    ADD COLUMN ingress_vrf bytea,
    ADD COLUMN egress_vrf bytea,
    ADD COLUMN application_id bytea,
    ADD COLUMN flow_id bytea,
    ADD COLUMN flow_end_reason bytea,
    ADD COLUMN firewall_event bytea,
    ADD COLUMN firewall_extended_event bytea,
    ADD COLUMN nat_event bytea,
    ADD COLUMN post_nat_src_ip bytea,
    ADD COLUMN post_nat_dst_ip bytea,
    ADD COLUMN post_nat_src_port bytea,
    ADD COLUMN post_nat_dst_port bytea,
    ADD COLUMN port_block_start bytea,
    ADD COLUMN port_block_end bytea;

-- The blocks are compressed already: PostgreSQL must not try again. Existing partitions take it over with the parent.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT attname FROM pg_attribute
        WHERE attrelid = 'flow_segments'::regclass AND atttypid = 'bytea'::regtype AND attnum > 0
        AND attstorage <> 'e' AND NOT attisdropped
    LOOP
        EXECUTE format('ALTER TABLE flow_segments ALTER COLUMN %I SET STORAGE EXTERNAL', name);
    END LOOP;
END
$$;

-- A session is told by its transport, too: 0 datagrams (UDP), 1 a stream (TCP, TLS).
ALTER TABLE decoder_state ADD COLUMN transport smallint NOT NULL DEFAULT 0;
ALTER TABLE decoder_state DROP CONSTRAINT decoder_state_pkey;
ALTER TABLE decoder_state
    ADD PRIMARY KEY (journal_id, exporter_id, transport, source_port, version, observation_domain);

-- Data sets whose template has not come yet, as they were received. Bounded by the decoder in bytes and age.
CREATE TABLE parked_sets (
    journal_id uuid NOT NULL,
    -- Counted on by the collector, so that they are decoded in the order of arrival.
    parked_id bigint NOT NULL,
    exporter_id bigint NOT NULL,
    transport smallint NOT NULL,
    source_port integer NOT NULL,
    version smallint NOT NULL,
    observation_domain bigint NOT NULL,
    template_id integer NOT NULL,
    received timestamptz NOT NULL,
    -- The header's export time in microseconds since 1970, and its uptime in milliseconds (NetFlow v9).
    export_time bigint NOT NULL,
    uptime bigint,
    body bytea NOT NULL,
    PRIMARY KEY (journal_id, parked_id)
);
ALTER TABLE parked_sets ALTER COLUMN body SET STORAGE EXTERNAL;

-- How far the exporter's clock is ahead of the collector's, in milliseconds, as its last datagram told.
ALTER TABLE exporter_activity ADD COLUMN clock_offset_ms bigint;

-- Interfaces as exporters describe them (options data, sFlow counters).
CREATE TABLE interfaces (
    exporter_id bigint NOT NULL,
    -- SNMP index.
    interface bigint NOT NULL,
    name text,
    description text,
    -- Bits a second.
    speed bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exporter_id, interface)
);

-- Counters of an interface as last told in each hour: they only grow, until the exporter restarts. received is when these
-- values were told first.
CREATE TABLE interface_counters (
    exporter_id bigint NOT NULL,
    interface bigint NOT NULL,
    hour timestamptz NOT NULL,
    received timestamptz NOT NULL,
    in_bytes numeric NOT NULL,
    in_packets bigint NOT NULL,
    in_discards bigint NOT NULL,
    in_errors bigint NOT NULL,
    out_bytes numeric NOT NULL,
    out_packets bigint NOT NULL,
    out_discards bigint NOT NULL,
    out_errors bigint NOT NULL,
    PRIMARY KEY (exporter_id, interface, hour)
) WITH (fillfactor = 70);
-- Old hours are deleted.
CREATE INDEX interface_counters_by_hour ON interface_counters (hour);

-- What application_id means at an exporter. An identifier of 2^63 and more is stored as it less 2^64.
CREATE TABLE applications (
    exporter_id bigint NOT NULL,
    application_id bigint NOT NULL,
    name text,
    description text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exporter_id, application_id)
);

-- What ingress_vrf and egress_vrf mean at an exporter.
CREATE TABLE vrfs (
    exporter_id bigint NOT NULL,
    vrf bigint NOT NULL,
    name text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exporter_id, vrf)
);

-- What an exporter says of its own work, by IANA's names: exported and not sent flows, ignored packets.
CREATE TABLE exporter_statistics (
    exporter_id bigint NOT NULL,
    observation_domain bigint NOT NULL,
    statistic text NOT NULL,
    value numeric NOT NULL,
    received timestamptz NOT NULL,
    PRIMARY KEY (exporter_id, observation_domain, statistic)
) WITH (fillfactor = 50);

-- Information elements in data records that the catalogue has no field for. enterprise 0 is IANA.
CREATE TABLE unknown_elements (
    exporter_id bigint NOT NULL,
    enterprise bigint NOT NULL,
    element integer NOT NULL,
    -- Records that had it.
    records bigint NOT NULL,
    last_seen timestamptz NOT NULL,
    PRIMARY KEY (exporter_id, enterprise, element)
) WITH (fillfactor = 50);
