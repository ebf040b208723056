-- Sealed hours: small segments lie in flow_segments_open until their hour is over and sealed; then they become few large
-- ones in flow_segments, and what each local host downloaded and uploaded is added up by hour and by UTC day.

-- Which process stored the last batch, by a number that it drew by chance: one whose COMMIT got no answer finds out by it
-- whether the position was moved by its own batch.
ALTER TABLE journal_positions ADD COLUMN author bigint;

-- Segments as ingest writes them. A partition holds an hour of the database's clock, whatever hour the flows
-- belong to: nothing is added to it later, so it is dropped as soon as all of it is sealed. Names are
-- flow_segments_open_p2026_11_23_14.
CREATE TABLE flow_segments_open (
    LIKE flow_segments INCLUDING DEFAULTS INCLUDING STORAGE,
    -- By the database's clock.
    stored timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (segment_id, stored)
) PARTITION BY RANGE (stored);
CREATE INDEX flow_segments_open_by_received ON flow_segments_open (received_first);

-- All segments without their blocks, wherever they lie.
CREATE VIEW segment_headers AS
    SELECT segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, total_flows, false AS open
    FROM flow_segments
    UNION ALL
    SELECT segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, total_flows, true
    FROM flow_segments_open;

-- Every UTC hour in which flows were received. Who stores flows of an hour locks its row FOR SHARE and opens it again if it
-- was sealed; who seals it locks it FOR UPDATE at the very end.
CREATE TABLE hours (
    hour timestamptz PRIMARY KEY,
    -- NULL while the hour is open.
    sealed_at timestamptz,
    -- The local networks by which its host totals were counted.
    local text,
    -- Grows whenever the hour is sealed or opened again.
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX hours_open ON hours (hour) WHERE sealed_at IS NULL;

INSERT INTO hours (hour)
    SELECT DISTINCT date_trunc('hour', received_first, 'UTC') FROM flow_segments;

-- UTC days whose host totals are added up. A day counts only while its hours are those that were added: so many, all
-- sealed, with versions of this sum.
CREATE TABLE days (
    day timestamptz PRIMARY KEY,
    hours integer NOT NULL,
    versions numeric NOT NULL,
    local text NOT NULL,
    summed_at timestamptz NOT NULL DEFAULT now()
);

-- Which way traffic of a local host went. Each flow of the host counts in exactly one of them.
CREATE TYPE traffic_direction AS ENUM (
    -- To the host from outside the local networks.
    'download',
    -- From the host to outside.
    'upload',
    -- To the host from another local host.
    'internal_received',
    -- From the host to another local host.
    'internal_sent',
    -- From the host to itself.
    'internal_self'
);

-- What each local host transferred in one hour at one exporter. Partitions hold a UTC month and are named
-- host_traffic_hourly_p2026_11. All sums are at most 2^63 - 1.
CREATE TABLE host_traffic_hourly (
    host inet NOT NULL,
    hour timestamptz NOT NULL,
    exporter_id bigint NOT NULL,
    direction traffic_direction NOT NULL,
    -- What sampling exporters sent is multiplied by their sampling interval.
    bytes bigint NOT NULL,
    packets bigint NOT NULL,
    -- Flows, counting what the exporter aggregated.
    flows bigint NOT NULL,
    -- Flow records.
    records bigint NOT NULL,
    -- The same as exporters sent it.
    raw_bytes bigint NOT NULL,
    raw_packets bigint NOT NULL,
    -- Flows with a sampling interval above 1.
    sampled_flows bigint NOT NULL,
    -- The earliest first and the latest last packet that exporters told.
    first_seen timestamptz,
    last_seen timestamptz,
    PRIMARY KEY (host, hour, exporter_id, direction)
) PARTITION BY RANGE (hour);
CREATE INDEX host_traffic_hourly_by_hour ON host_traffic_hourly (hour);

-- The same by UTC day.
CREATE TABLE host_traffic_daily (
    host inet NOT NULL,
    day timestamptz NOT NULL,
    exporter_id bigint NOT NULL,
    direction traffic_direction NOT NULL,
    bytes bigint NOT NULL,
    packets bigint NOT NULL,
    flows bigint NOT NULL,
    records bigint NOT NULL,
    raw_bytes bigint NOT NULL,
    raw_packets bigint NOT NULL,
    sampled_flows bigint NOT NULL,
    first_seen timestamptz,
    last_seen timestamptz,
    PRIMARY KEY (host, day, exporter_id, direction)
) PARTITION BY RANGE (day);
CREATE INDEX host_traffic_daily_by_day ON host_traffic_daily (day);

COMMENT ON TABLE flow_segments IS 'Flows as compressed columns, for the API; kept for [storage] segments_days';
COMMENT ON TABLE flow_segments_open IS 'Segments of hours that are not sealed yet';
COMMENT ON TABLE hours IS 'UTC hours in which flows were received, and whether they are sealed';
COMMENT ON TABLE days IS 'UTC days of which host_traffic_daily holds the totals';
COMMENT ON TABLE host_traffic_hourly IS 'Traffic of each local host by UTC hour, exporter and direction; exact, of sealed hours';
COMMENT ON TABLE host_traffic_daily IS 'Traffic of each local host by UTC day, exporter and direction; exact, of days in the table days';
COMMENT ON TYPE traffic_direction IS 'Seen from the host: received is download + internal_received + internal_self, sent is upload + internal_sent + internal_self';
