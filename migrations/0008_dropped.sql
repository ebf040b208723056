-- Totals outlive flows. When flows of an hour come after those it had were dropped, they are added to its totals.
ALTER TABLE hours ADD COLUMN flows_dropped boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN hours.flows_dropped IS 'Whether flows of the hour that its totals hold are no longer kept';

UPDATE hours SET flows_dropped = true
    WHERE version > 0 AND to_regclass('flow_segments_p' || to_char(hour AT TIME ZONE 'UTC', 'YYYY_MM_DD')) IS NULL;
