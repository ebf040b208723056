-- The ledger: who exports, every flow twice (as rows for people with SQL tools, as compressed columns for the API), how far
-- the journal is stored, and what is known to be missing.
--
-- Tables with flows have one partition level by receive time, no sequences, no foreign keys, no triggers and no default
-- partition: they can be distributed, and old days go by dropping a partition. Bounds are UTC days; names are
-- <table>_p2026_11_23.

-- A router or probe that sends flows, known by its address.
CREATE TABLE exporters (
    exporter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address inet NOT NULL UNIQUE,
    -- What people call it; empty until somebody names it.
    name text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What an exporter sent in one version of the protocol. A row an exporter and version, so that an update stays small.
CREATE TABLE exporter_activity (
    exporter_id bigint NOT NULL,
    version smallint NOT NULL,
    last_seen timestamptz NOT NULL,
    datagrams bigint NOT NULL,
    flows bigint NOT NULL,
    PRIMARY KEY (exporter_id, version)
) WITH (fillfactor = 50);

-- How far each collector's journal is stored. The row is locked by the transaction that stores a batch and must equal the
-- batch's start: this makes every datagram count once.
CREATE TABLE journal_positions (
    journal_id uuid PRIMARY KEY,
    -- The upper bits of the journal's segment ids.
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    position bigint NOT NULL,
    -- The lower bits of the next segment's id.
    next_segment bigint NOT NULL DEFAULT 0,
    -- Everything this collector received before this moment is stored.
    complete_until timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What the decoder must remember over a restart: templates and sequence counters of one transport session and domain.
CREATE TABLE decoder_state (
    journal_id uuid NOT NULL,
    exporter_id bigint NOT NULL,
    source_port integer NOT NULL,
    version smallint NOT NULL,
    observation_domain bigint NOT NULL,
    templates integer NOT NULL,
    state bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (journal_id, exporter_id, source_port, version, observation_domain)
) WITH (fillfactor = 50);

-- What is known to be missing, by the hour in which it was noticed. exporter_id 0 stands for no known exporter. A late
-- datagram takes its loss back, so a count can shrink.
CREATE TABLE loss (
    exporter_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    cause text NOT NULL,
    unit text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (exporter_id, hour, cause, unit)
);
CREATE INDEX loss_by_hour ON loss (hour);

-- One flow a row, for SQL tools. The API does not read it. Only two columns are always there: exporters differ.
CREATE TABLE flows (
    received timestamptz NOT NULL,
    exporter_id bigint NOT NULL,
    observation_domain bigint,
    first_seen timestamptz,
    last_seen timestamptz,
    src_ip inet,
    dst_ip inet,
    src_port integer,
    dst_port integer,
    protocol smallint,
    in_bytes bigint,
    in_packets bigint,
    out_bytes bigint,
    out_packets bigint,
    aggregated_flows bigint,
    tcp_flags integer,
    src_tos smallint,
    dst_tos smallint,
    input_interface bigint,
    output_interface bigint,
    src_as bigint,
    dst_as bigint,
    src_mask smallint,
    dst_mask smallint,
    next_hop inet,
    bgp_next_hop inet,
    src_vlan integer,
    dst_vlan integer,
    in_src_mac macaddr,
    out_dst_mac macaddr,
    in_dst_mac macaddr,
    out_src_mac macaddr,
    icmp_type smallint,
    icmp_code smallint,
    direction smallint,
    forwarding_status smallint
) PARTITION BY RANGE (received);
-- Rows come in the order of time, so a block range index costs next to nothing and finds a time span.
CREATE INDEX flows_by_received ON flows USING brin (received);

-- Up to 65,536 flows a row: a block of compressed values for each field, NULL where no flow has the field. All flows of a
-- segment were received in one UTC hour.
CREATE TABLE flow_segments (
    segment_id bigint NOT NULL,
    received_first timestamptz NOT NULL,
    received_last timestamptz NOT NULL,
    flow_rows integer NOT NULL,
    -- Sums over the segment's flows, at most 2^63 - 1.
    total_bytes bigint NOT NULL,
    total_packets bigint NOT NULL,
    total_flows bigint NOT NULL,
    received bytea,
    exporter_id bytea,
    observation_domain bytea,
    first_seen bytea,
    last_seen bytea,
    src_ip bytea,
    dst_ip bytea,
    src_port bytea,
    dst_port bytea,
    protocol bytea,
    in_bytes bytea,
    in_packets bytea,
    out_bytes bytea,
    out_packets bytea,
    aggregated_flows bytea,
    tcp_flags bytea,
    src_tos bytea,
    dst_tos bytea,
    input_interface bytea,
    output_interface bytea,
    src_as bytea,
    dst_as bytea,
    src_mask bytea,
    dst_mask bytea,
    next_hop bytea,
    bgp_next_hop bytea,
    src_vlan bytea,
    dst_vlan bytea,
    in_src_mac bytea,
    out_dst_mac bytea,
    in_dst_mac bytea,
    out_src_mac bytea,
    icmp_type bytea,
    icmp_code bytea,
    direction bytea,
    forwarding_status bytea,
    PRIMARY KEY (segment_id, received_first)
) PARTITION BY RANGE (received_first);
CREATE INDEX flow_segments_by_received ON flow_segments (received_first);

-- The blocks are compressed already: PostgreSQL must not try again. Partitions take the setting over.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT attname FROM pg_attribute
        WHERE attrelid = 'flow_segments'::regclass AND atttypid = 'bytea'::regtype AND attnum > 0
    LOOP
        EXECUTE format('ALTER TABLE flow_segments ALTER COLUMN %I SET STORAGE EXTERNAL', name);
    END LOOP;
END
$$;
