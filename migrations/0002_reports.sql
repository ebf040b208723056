-- Which report was made of which period, by whom, and where it went. Definitions live in the configuration; these rows are
-- the memory that makes a period run once, also with several servers and over restarts.

CREATE TABLE report_runs (
    report text NOT NULL,
    -- The period is stored when it falls due and never computed again: a change of zone or schedule must not shift it. Its
    -- end belongs to the key because a report whose period is changed from days to weeks may meet the same start again.
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    -- What people call it: 2026-11-23, 2026-W47 or 2026-11.
    period text NOT NULL,
    due timestamptz NOT NULL,
    -- pending: due or to be tried again; running: somebody holds the lease; done: delivered everywhere; failed: given up
    -- or refused for good somewhere; skipped: missed too long ago to be made up.
    state text NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed', 'skipped')),
    attempts integer NOT NULL DEFAULT 0,
    -- Leases and back-off go by the database's clock: the servers' clocks may differ.
    not_before timestamptz NOT NULL DEFAULT now(),
    claimed_by text,
    lease_until timestamptz,
    error text,
    -- The document, made once, so that every attempt and recipient gets the same bytes.
    document text,
    csv text,
    manifest text,
    summary text,
    csv_rows bigint,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (report, period_start, period_end)
);
-- What a server looks for each minute.
CREATE INDEX report_runs_open ON report_runs (report, period_end) WHERE state IN ('pending', 'running');

-- Each place a run is delivered to, by itself: a mail that one server refuses must not be sent again to the others.
CREATE TABLE report_deliveries (
    report text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    -- file or email
    delivery text NOT NULL,
    -- The directory or the address.
    recipient text NOT NULL,
    -- sending is written before and sent after: a crash in between repeats a mail, under the same Message-ID, and never
    -- loses one.
    state text NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    message_id text,
    error text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (report, period_start, period_end, delivery, recipient)
);
