-- What people who read the totals by SQL must know, where psql shows it.

-- Totals of a day count only while its hours are as they were when it was added up: late flows open an hour again.
CREATE VIEW host_traffic_by_day AS
    SELECT traffic.* FROM host_traffic_daily AS traffic JOIN days USING (day)
    WHERE (days.hours, days.versions) = (
        SELECT count(*), sum(version) FROM hours
        WHERE hour >= days.day AND hour < days.day + interval '24 hours'
        HAVING bool_and(coalesce(sealed_at IS NOT NULL AND local = days.local, false))
    );

-- Totals of an hour count only while it is sealed, and not when flows of it went before they were counted.
CREATE VIEW host_traffic_by_hour AS
    SELECT traffic.* FROM host_traffic_hourly AS traffic JOIN hours USING (hour)
    WHERE sealed_at IS NOT NULL AND local IS NOT NULL;

COMMENT ON VIEW host_traffic_by_hour IS
    'Traffic of each local host by UTC hour, exporter and direction; exact, of sealed hours';
COMMENT ON VIEW host_traffic_by_day IS
    'Traffic of each local host by UTC day, exporter and direction; exact, of the days whose hours are all sealed. Newer ones are in host_traffic_by_hour';
COMMENT ON TABLE host_traffic_daily IS
    'What host_traffic_by_day shows; read that, since a day stays here after late flows have opened one of its hours, until it is added up again';
COMMENT ON TABLE host_traffic_hourly IS
    'What host_traffic_by_hour shows; read that, since an hour stays here after late flows have opened it, until it is sealed again';
COMMENT ON COLUMN hours.sealed_at IS 'When the hour was sealed; NULL while it is open';
COMMENT ON COLUMN hours.local IS 'The local networks and counting rules by which its host totals were counted; NULL before that, and where flows went uncounted';
COMMENT ON COLUMN hours.version IS 'Grows whenever the hour is sealed or opened again';

DO $$
DECLARE
    traffic text;
BEGIN
    FOREACH traffic IN ARRAY ARRAY['host_traffic_hourly', 'host_traffic_daily', 'host_traffic_by_hour', 'host_traffic_by_day'] LOOP
        EXECUTE format('COMMENT ON COLUMN %I.host IS %L', traffic, 'The local host');
        EXECUTE format('COMMENT ON COLUMN %I.exporter_id IS %L', traffic, 'Who told, as in the table exporters');
        EXECUTE format('COMMENT ON COLUMN %I.direction IS %L', traffic, 'Which way, seen from the host');
        EXECUTE format('COMMENT ON COLUMN %I.bytes IS %L', traffic, 'Bytes, times the sampling interval of each flow; at most 2^63 - 1, as all sums');
        EXECUTE format('COMMENT ON COLUMN %I.packets IS %L', traffic, 'Packets, times the sampling interval of each flow');
        EXECUTE format('COMMENT ON COLUMN %I.flows IS %L', traffic, 'Flows, counting what the exporter aggregated');
        EXECUTE format('COMMENT ON COLUMN %I.records IS %L', traffic, 'Flow records');
        EXECUTE format('COMMENT ON COLUMN %I.raw_bytes IS %L', traffic, 'Bytes as exporters sent them');
        EXECUTE format('COMMENT ON COLUMN %I.raw_packets IS %L', traffic, 'Packets as exporters sent them');
        EXECUTE format('COMMENT ON COLUMN %I.sampled_flows IS %L', traffic, 'Flows with a sampling interval above 1');
        EXECUTE format('COMMENT ON COLUMN %I.first_seen IS %L', traffic, 'The earliest first packet that exporters told');
        EXECUTE format('COMMENT ON COLUMN %I.last_seen IS %L', traffic, 'The latest last packet that exporters told');
    END LOOP;
END $$;
COMMENT ON COLUMN host_traffic_hourly.hour IS 'Start of the UTC hour';
COMMENT ON COLUMN host_traffic_by_hour.hour IS 'Start of the UTC hour';
COMMENT ON COLUMN host_traffic_daily.day IS 'Start of the UTC day';
COMMENT ON COLUMN host_traffic_by_day.day IS 'Start of the UTC day';
