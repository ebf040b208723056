-- Double counting: the same flows told at two observation points, as it is found while an hour is sealed.

-- Two sides, an exporter in a direction each, that told the same flows in an hour; written when the hour is sealed, kept 30 days.
CREATE TABLE double_counting (
    hour timestamptz NOT NULL,
    exporter_id bigint NOT NULL,
    -- ingress or egress; NULL where its flows do not say.
    direction text,
    -- The same side again when two of its interfaces or observation domains told the same flows.
    other_exporter_id bigint NOT NULL,
    other_direction text,
    -- Of a sample of 5-tuples, one in so many of the hour's.
    sampled_one_in bigint NOT NULL,
    compared_flows bigint NOT NULL,
    other_compared_flows bigint NOT NULL,
    -- Flows that both told, and their bytes, each counted once.
    matched_flows bigint NOT NULL,
    matched_bytes bigint NOT NULL,
    -- The interfaces with the most flows in common, and the largest flows.
    evidence jsonb NOT NULL,
    -- The setting that would end it, as a line below [[exporter]], and for which exporter; NULL when none separates the sides.
    proposed_for bigint,
    proposed text,
    UNIQUE NULLS NOT DISTINCT (hour, exporter_id, direction, other_exporter_id, other_direction)
);

COMMENT ON TABLE double_counting IS 'The same flows told at two observation points, by sealed hour; kept 30 days';
COMMENT ON COLUMN hours.local IS 'The local networks, and the counting rules, by which its host totals were counted.';
COMMENT ON COLUMN days.local IS 'The local networks, and the counting rules, by which its host totals were counted.';
