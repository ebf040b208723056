-- The rows of host totals of an hour or day once more, packed for answers: NULL until upkeep has packed them, empty where there are
-- too many to be packed. The rows stay what counts; whatever changes them takes the packed ones away.
ALTER TABLE hours ADD COLUMN totals bytea;
ALTER TABLE days ADD COLUMN totals bytea;
ALTER TABLE hours ALTER COLUMN totals SET STORAGE EXTERNAL;
ALTER TABLE days ALTER COLUMN totals SET STORAGE EXTERNAL;
CREATE INDEX hours_to_pack ON hours (hour) WHERE totals IS NULL AND sealed_at IS NOT NULL;
COMMENT ON COLUMN hours.totals IS 'The hour''s rows of host_traffic_hourly, packed for the API';
COMMENT ON COLUMN days.totals IS 'The day''s rows of host_traffic_daily, packed for the API';
