-- Files of other collectors that were brought in: which, how far, and what that means for answers.

-- A file, known by what it holds and not by its name. The row is locked by the transaction that stores a part of the file and
-- must stand at that part's start: this makes every flow count once, as with journal_positions.
CREATE TABLE imports (
    import_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- SHA-256.
    content_hash bytea NOT NULL UNIQUE,
    -- Where it lay when it was first brought in.
    name text NOT NULL,
    size bigint NOT NULL,
    -- nfdump or capture
    format text NOT NULL,
    -- Everything before this byte is stored.
    position bigint NOT NULL DEFAULT 0,
    flows bigint NOT NULL DEFAULT 0,
    -- Flows that were left out: older than segments are kept, in the future, or without any time.
    refused bigint NOT NULL DEFAULT 0,
    -- The receive times of what was stored.
    received_first timestamptz,
    received_last timestamptz,
    -- running: not at its end yet; done: all of it is stored or left out; damaged: the same, but something could not be read
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'damaged')),
    -- What could not be read, the first of it.
    error text,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

-- The next id of a segment of imports. Their upper bits are 0, a number that no journal has.
CREATE TABLE import_segments (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    next_segment bigint NOT NULL
);
INSERT INTO import_segments (next_segment) VALUES (0);

-- UTC hours in which imported flows were received. Another collector received them, and nobody knows what it lost without
-- a trace: answers about these hours are never called exact.
CREATE TABLE imported_hours (
    hour timestamptz PRIMARY KEY
);

-- UTC days of flow_segments that are there because of an import. They say nothing about since when flows are recorded and kept.
CREATE TABLE imported_days (
    day timestamptz PRIMARY KEY
);
